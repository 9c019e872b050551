package program

// The roles of a service's process. Where a service's API must answer always, while its workers come and go with the events that wait, the two run as processes of their own.
const (
	RoleAll    = "all"
	RoleAPI    = "api"    // serves the API, reads no events
	RoleWorker = "worker" // reads events, serves health and metrics only
)

// Role is the flag of the programs that can be split.
type Role struct {
	Role string `env:"TIDEMARK_ROLE" default:"all" enum:"all,api,worker" help:"What of the service this process does: ${enum}. api serves its API and reads no events; worker reads events and serves health and metrics only."`
}

// APIOnly reports whether the process reads no events.
func (r Role) APIOnly() bool { return r.Role == RoleAPI }

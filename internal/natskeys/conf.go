package natskeys

import (
	"fmt"
	"io"
	"strings"

	"github.com/tidemark/tidemark/pkg/events"
)

// Configuration makes the seeds that are missing in dir and writes the part of nats-server's configuration that says who the users are and what they may do.
func Configuration(w io.Writer, dir string, users []events.User) error {
	names := make([]string, len(users))
	for i, u := range users {
		names[i] = u.Name
	}
	public, err := Ensure(dir, names...)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, write(users, public))
	return err
}

func write(users []events.User, public map[string]string) string {
	var b strings.Builder
	b.WriteString("# Who may do what at the broker. Made by `tidemark topology nats-conf` from the topology; it holds public keys only. Include it in the server's configuration.\n")
	b.WriteString("authorization {\n  users = [\n")
	for _, u := range users {
		fmt.Fprintf(&b, "    # %s: %s\n", u.Name, u.Description)
		fmt.Fprintf(&b, "    {\n      nkey: %s\n      permissions: {\n", public[u.Name])
		b.WriteString("        publish: {\n")
		list(&b, "allow", u.Publish)
		if len(u.Deny) > 0 {
			list(&b, "deny", u.Deny)
		}
		b.WriteString("        }\n        subscribe: {\n")
		list(&b, "allow", u.Subscribe)
		b.WriteString("        }\n      }\n    }\n")
	}
	b.WriteString("  ]\n}\n")
	return b.String()
}

func list(b *strings.Builder, what string, subjects []string) {
	fmt.Fprintf(b, "          %s: [\n", what)
	for _, subject := range subjects {
		fmt.Fprintf(b, "            %q\n", subject)
	}
	b.WriteString("          ]\n")
}

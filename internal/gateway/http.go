package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

const (
	maxBody      = 16 << 10
	maxKey       = 255
	defaultLimit = 100
	maxLimit     = 10_000
)

// Payments are the patterns of what a shop asks of the gateway.
func Payments() []string { return []string{"POST /v1/payments", "POST /v1/payments/{key}/void"} }

// Books are the patterns of what its operators read and switch.
func Books() []string {
	return []string{"GET /v1/payments/{key}", "GET /v1/payments", "GET /v1/ledger", "GET /v1/faults", "PUT /v1/faults"}
}

func (g *Gateway) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/payments", g.faulty(g.postPayment))
	mux.Handle("POST /v1/payments/{key}/void", g.faulty(g.postVoid))
	mux.HandleFunc("GET /v1/payments/{key}", g.getPayment)
	mux.HandleFunc("GET /v1/payments", g.getPayments)
	mux.HandleFunc("GET /v1/ledger", g.getLedger)
	mux.HandleFunc("GET /v1/faults", g.getFaults)
	mux.HandleFunc("PUT /v1/faults", g.putFaults)
	return mux
}

// faulty lets the faults act that come before anything is done. Reading is never disturbed: tests and operators must see the truth.
func (g *Gateway) faulty(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.delay(r.Context()); r.Context().Err() != nil {
			return
		}
		if hits(g.Faults().ErrorRate) {
			problem(w, http.StatusInternalServerError, "a fault that is switched on: nothing was done")
			return
		}
		next(w, r)
	})
}

func (g *Gateway) postPayment(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Idempotency-Key")
	if key == "" || len(key) > maxKey {
		problem(w, http.StatusBadRequest, fmt.Sprintf("header Idempotency-Key: required, 1 to %d bytes", maxKey))
		return
	}
	var c Charge
	if !readJSON(w, r, &c) {
		return
	}
	if err := c.validate(); err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	p, err := g.Charge(key, c)
	switch {
	case errors.Is(err, ErrOtherPayment):
		problem(w, http.StatusUnprocessableEntity, err.Error())
	case err != nil:
		problem(w, http.StatusInternalServerError, "the ledger can't be written")
	case p.Status == Captured && hits(g.Faults().ErrorAfterCaptureRate):
		problem(w, http.StatusInternalServerError, "a fault that is switched on: captured, and the answer lost")
	default:
		writeJSON(w, p)
	}
}

func (c Charge) validate() error {
	var errs []error
	if c.OrderID == "" {
		errs = append(errs, errors.New("order_id: required, is empty"))
	}
	if c.AmountMinor < 0 {
		errs = append(errs, errors.New("amount_minor: must be 0 or more"))
	}
	if len(c.Currency) != 3 {
		errs = append(errs, errors.New("currency: must be three letters"))
	}
	return errors.Join(errs...)
}

func (g *Gateway) postVoid(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	if len(key) > maxKey {
		problem(w, http.StatusBadRequest, fmt.Sprintf("key: must have 1 to %d bytes", maxKey))
		return
	}
	p, err := g.Void(key)
	if err != nil {
		problem(w, http.StatusInternalServerError, "the ledger can't be written")
		return
	}
	writeJSON(w, p)
}

func (g *Gateway) getPayment(w http.ResponseWriter, r *http.Request) {
	p, ok := g.Payment(r.PathValue("key"))
	if !ok {
		problem(w, http.StatusNotFound, "no payment under this key")
		return
	}
	writeJSON(w, p)
}

func (g *Gateway) getPayments(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	offset, err1 := number(query, "offset", 0, 0, 1<<31-1)
	limit, err2 := number(query, "limit", defaultLimit, 1, maxLimit)
	if err := errors.Join(err1, err2); err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	items, total := g.list(offset, limit)
	writeJSON(w, map[string]any{"total": total, "items": items})
}

func number(query url.Values, name string, byDefault, least, most int) (int, error) {
	if !query.Has(name) {
		return byDefault, nil
	}
	n, err := strconv.Atoi(query.Get(name))
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("query %s: must be a number from %d to %d", name, least, most)
	}
	return n, nil
}

func (g *Gateway) getLedger(w http.ResponseWriter, _ *http.Request) {
	g.mu.Lock()
	lines := g.ledger.section()
	g.mu.Unlock()
	w.Header().Set("Content-Type", "application/jsonl")
	if _, err := io.Copy(w, lines); err != nil {
		g.log.Warn("ledger is not sent whole", "error", err)
	}
}

func (g *Gateway) getFaults(w http.ResponseWriter, _ *http.Request) { writeJSON(w, g.Faults()) }

// putFaults changes the faults that the body names and keeps the others.
func (g *Gateway) putFaults(w http.ResponseWriter, r *http.Request) {
	f := faultsJSON(g.Faults())
	if !readJSON(w, r, &f) {
		return
	}
	if err := g.SetFaults(Faults(f)); err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	g.log.Info("faults are switched", "decline_rate", f.DeclineRate, "error_rate", f.ErrorRate, "error_after_capture_rate", f.ErrorAfterCaptureRate, "delay", f.Delay)
	writeJSON(w, g.Faults())
}

// readJSON reads the body into v, or answers why not.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(v)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return true
	case errors.As(err, &tooLarge):
		problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("body: at most %d bytes", maxBody))
	default:
		problem(w, http.StatusBadRequest, "body: "+err.Error())
	}
	return false
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller is gone; the ledger has it
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

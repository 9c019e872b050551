package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/term"
)

func logHandler(cfg Config, options *slog.HandlerOptions) (slog.Handler, error) {
	format := cfg.LogFormat
	if format == "" || format == "auto" {
		format = "json" // somebody collects it
		if f, ok := cfg.Output.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	switch format {
	case "text":
		return slog.NewTextHandler(cfg.Output, options), nil
	case "json":
		return slog.NewJSONHandler(cfg.Output, options), nil
	default:
		return nil, fmt.Errorf("log format %q: must be auto, text or json", cfg.LogFormat)
	}
}

// withTrace writes the trace that a line was logged in, so that one leads to the other.
type withTrace struct{ slog.Handler }

func (h withTrace) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h withTrace) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withTrace{h.Handler.WithAttrs(attrs)}
}

func (h withTrace) WithGroup(name string) slog.Handler { return withTrace{h.Handler.WithGroup(name)} }

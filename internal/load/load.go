// Package load feeds orders to the order API as a shop would: the invoices of a file, or made-up orders and clicks.
//
// An invoice of the file is one order. Its number is the idempotency key, the time of its first line the event time, and all its lines belong to it
// wherever they stand in the file. The file's dirt (cancellations, negative quantities and prices) is sent as it is, since refusing it is
// the API's part; only a line that can't be read is left out, told and counted.
//
// What holds whatever happens to the API meanwhile: an order is sent under one key only, as often as it takes to get an answer. So a load can be
// killed, or its API, and run again: nothing is placed twice.
//
// The file is read twice: first to learn how many lines each invoice has, then to send. So memory does not grow with the file's size.
//
// Late input is what event time is for: see [Config.Late]. At the end a load says which of its event times lie behind analytics' watermark.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/natsconn"
)

// Run loads as configured, tells on progress how it goes and prints the summary on out. Orders that are refused or rejected are results, no error.
// An error that wraps [ErrUsage] is the caller's; after any other error the summary tells how far it came.
func Run(ctx context.Context, cfg Config, out, progress io.Writer) (Summary, error) {
	if err := cfg.Validate(); err != nil {
		return Summary{}, err
	}
	cfg = cfg.withDefaults()
	report := newReporter(progress)
	api, err := client.New(client.Config{URL: cfg.API, Token: cfg.Token, Patience: client.Forever, Conns: cfg.InFlight, OnRetry: report.retry})
	if err != nil {
		return Summary{}, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	defer api.Close()
	look := client.Config{URL: cfg.API, Token: cfg.Token, Patience: time.Nanosecond}
	s := &sender{api: api, look: look, report: report, began: time.Now()}
	ctx, denied, why := natsconn.EndWhenDenied(ctx)
	if cfg.CSV != "" {
		err = s.file(ctx, cfg)
	} else {
		err = s.makeUp(ctx, cfg, denied)
	}
	err = why(err)
	report.finish()
	if errors.Is(err, ErrUsage) {
		return Summary{}, err
	}
	if s.refusal != "" {
		report.say("first refusal: %.200s", s.refusal) // an invoice of 600 bad lines names each of them
	}
	if s.before != nil {
		if text := behind(s.span, s.before, settled(ctx, s.look)); text != "" {
			report.say("%s", text)
		}
	}
	return s.sum, errors.Join(err, s.failure, s.sum.print(out, cfg.JSON))
}

func (s *sender) file(ctx context.Context, cfg Config) error {
	p, err := survey(cfg.CSV, cfg.Limit, cfg.delays(), s.report.badLine)
	if err != nil {
		return err
	}
	s.report.badTotal()
	s.sum.Rows, s.sum.BadRows, s.sum.Invoices = p.rows, p.bad, p.invoices
	if err := s.stock(ctx, p.skus, cfg.Stock, cfg.InFlight); err != nil {
		return err
	}
	return s.timed(ctx, cfg.Wait, p.invoices, func() error { return s.invoices(ctx, cfg, p) })
}

func (s *sender) makeUp(ctx context.Context, cfg Config, denied func(error)) error {
	m := newMaker(cfg)
	s.sum.Rows, s.sum.Invoices = m.number, m.orders()
	if cfg.Poison > 0 || cfg.Twice > 0 {
		var err error
		if s.producer, err = newProducer(ctx, s.api, cfg, denied); err != nil {
			return err
		}
		defer s.producer.nc.Close()
	}
	s.report.say("made-up input, seed %d; the same again: --start %s", cfg.Seed, cfg.run())
	if err := s.stock(ctx, m.skus(), cfg.Stock, cfg.InFlight); err != nil {
		return err
	}
	return s.timed(ctx, cfg.Wait, m.number, func() error { return s.made(ctx, m, cfg.InFlight) })
}

// timed sends, asks for the outcomes, and takes the time of both.
func (s *sender) timed(ctx context.Context, wait bool, total int, send func() error) error {
	s.before = standings(ctx, s.look)
	began := time.Now()
	defer func() { s.sum.measure(time.Since(began).Seconds()) }()
	s.report.phase("sending", total)
	if err := send(); err != nil {
		s.setOpen(len(s.takeOpen()))
		return err
	}
	return s.watch(ctx, wait)
}

// invoices sends the file's invoices, started in their order, several at once.
func (s *sender) invoices(ctx context.Context, cfg Config, p *plan) error {
	speed, err := ParseSpeed(cfg.Speed)
	if err != nil {
		return err
	}
	if speed > 0 {
		s.report.say("the same again: --start %s", cfg.run())
	}
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(cfg.InFlight)
	err = eachInvoice(cfg.CSV, p, func(v *invoice) error {
		key, order := v.number, v.order()
		if speed > 0 {
			key += "@" + cfg.run()
			if order.PlacedAt, err = moved(cfg.Start, v.at.Sub(p.first), speed); err != nil {
				return err
			}
			due, err := moved(cfg.Start, v.due.Sub(p.first), speed)
			if err != nil {
				return err
			}
			if err := sleep(sending, time.Until(due)); err != nil {
				return err
			}
		}
		if err := sending.Err(); err != nil {
			return err
		}
		group.Go(func() error {
			_, err := s.place(sending, key, order)
			return err
		})
		return nil
	})
	if waitErr := group.Wait(); waitErr != nil {
		return waitErr // the reason why reading ended, if it did
	}
	return err
}

// moved is the event time of what happened so long after the first invoice, when the run starts then and time runs so many times faster.
func moved(start time.Time, after time.Duration, speed float64) (time.Time, error) {
	scaled := float64(after) / speed
	if math.Abs(scaled) > float64(math.MaxInt64/2) {
		return time.Time{}, fmt.Errorf("%w: speed: the file would take more than a hundred years", ErrUsage)
	}
	return start.Add(time.Duration(scaled)), nil
}

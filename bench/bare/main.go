// Command bare is the least program that consumes: it connects, takes one message of a durable consumer, acknowledges it and waits to be stopped. `bench coldstart` starts it beside our workers.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1) //nolint:gocritic // the process ends here
	}
}

func run(ctx context.Context, url, stream, name string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, stream, name)
	if err != nil {
		return err
	}
	reading, err := consumer.Consume(func(m jetstream.Msg) { _ = m.Ack() }) // who measures sees whether it came
	if err != nil {
		return err
	}
	defer reading.Stop()
	<-ctx.Done()
	return nil
}

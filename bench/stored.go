package main

import "slices"

// stored compares orders on a log that has many with orders on one that has hardly any. Each is a system in a process of its own; they take turns, and plain nats.go
// beside each of them, since the machine's speed moves by more than what is looked for within the minutes that it takes to store so many.
func (c *ordersCmd) stored(b *bench) error {
	empty, err := startChild(b.ctx, systemCmd{N: c.N, Open: c.Open, Users: c.Users}, nil)
	if err != nil {
		return err
	}
	defer empty.stop()
	if err := empty.ready(); err != nil {
		return err
	}
	full, err := startChild(b.ctx, systemCmd{N: c.N, Open: c.Open, Users: c.Users, Stored: c.Stored, Settle: c.Settle}, nil)
	if err != nil {
		return err
	}
	defer full.stop()
	if err := full.ready(); err != nil {
		return err
	}
	rows := []struct {
		name   string
		of     *child
		kind   string
		rounds []round
	}{
		{"Tidemark, empty log", empty, roundOurs, nil}, {"Tidemark, many orders stored", full, roundOurs, nil},
		{"plain nats.go, beside the empty log", empty, roundPlain, nil}, {"plain nats.go, beside many orders", full, roundPlain, nil},
	}
	for i := range c.Rounds {
		order := []int{0, 1, 2, 3}
		if i%2 == 1 { // A B B A
			slices.Reverse(order)
		}
		for _, k := range order {
			r, err := rows[k].of.round(rows[k].kind)
			if err != nil {
				return err
			}
			rows[k].rounds = append(rows[k].rounds, r)
		}
	}
	b.say("| what | orders/s (median of %d, lowest to highest) | CPU an order: client / nats-server | ratio to the empty log: median of the turns |", c.Rounds)
	b.say("|---|---|---|---|")
	for k, row := range rows {
		b.say("| %s | %s | %s | %.2f |", row.name, spread(row.rounds), perOrder(row.rounds, c.N), turns(row.rounds, rows[k-k%2].rounds))
	}
	return nil
}

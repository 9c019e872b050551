//go:build !long

package analytics

// killRows are those of every run: each stage once, in one of two modes. The build tag long has all stages in four modes.
func killRows() []killRow {
	return []killRow{
		{Mode{}, []death{
			{"while the first base is written", duringBase, 1},
			{"C01: before the commit", beforeCommit, 2},
			{"C03: in the middle of publishing", duringPublish, 2},
			{"C02: after publishing, before the acknowledgement", afterPublish, 2},
		}},
		{Mode{Events: 30}, []death{
			{"after the commit, before publishing", afterCommit, 3},
			{"while the base is restored", duringRestore, 1},
			{"C01: before the commit", beforeCommit, 3},
		}},
	}
}

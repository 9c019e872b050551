//go:build long

package bus_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// TestJobSurvivesKill: the process that works on a job is killed twice in the middle of it. The next one finishes the job: every event is applied, in the order of its key,
// and only what was claimed at a kill is applied again.
func TestJobSurvivesKill(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single)
	const total = 400
	f.parkMany(total, 80)
	r := newRecord()
	f.hear(r)
	job := f.job(deadletter.JobReplay)
	mayRepeat := make(map[uint64]bool)
	for _, upTo := range []int{total / 5, total / 2} {
		kill := f.replayer()
		eventstest.Eventually(t, 30*time.Second, "some are replayed", func() bool { return r.distinct() >= upTo })
		kill()
		left := f.letters()
		if len(left) == 0 {
			t.Fatal("the job was over before its owner")
		}
		for _, l := range left {
			if l.Current.State == deadletter.StateReplaying {
				mayRepeat[l.StreamSeq] = true
			}
		}
	}
	f.replayer()
	status := f.done(job)
	if sum := status.Sum(); status.State != deadletter.JobDone || sum.Done != total || sum.Failed != 0 || sum.Discarded != 0 {
		t.Errorf("%s: %+v, want all %d done", status.State, sum, total)
	}
	if bad := r.disorder(); len(bad) > 0 || r.distinct() != total || len(f.letters()) > 0 {
		t.Errorf("%d events applied, %d letters left; %v", r.distinct(), len(f.letters()), bad)
	}
	for _, seq := range r.repeated() {
		if !mayRepeat[seq] {
			t.Errorf("sequence %d was applied again, and was not claimed when a process was killed", seq)
		}
	}
	t.Logf("%d calls for %d events, where %d might have been repeated", r.count(), total, len(mayRepeat))
}

// replayer starts this test binary as a member that replays, and returns what kills it.
func (f *fixture) replayer() (kill func()) {
	f.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec,noctx // ourselves
	cmd.Env = append(os.Environ(), childURL+"="+f.server.URL(), childRole+"=replays")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	return f.killer(cmd)
}

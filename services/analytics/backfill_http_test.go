package analytics

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// startBackfill asks for a backfill and returns the job as it was then.
func (in *instance) startBackfill(body string) BackfillJob {
	in.tb.Helper()
	var header http.Header
	if body != "" {
		header = http.Header{"Content-Type": {"application/json"}}
	}
	status, answer := in.do(http.MethodPost, "/v1/backfills", header, body)
	var j BackfillJob
	if err := json.Unmarshal([]byte(answer), &j); err != nil || status != http.StatusAccepted {
		in.tb.Fatalf("POST /v1/backfills: %d %s", status, answer)
	}
	return j
}

// awaitBackfill waits until a job has ended.
func (in *instance) awaitBackfill(id string) (j BackfillJob) {
	in.tb.Helper()
	eventstest.Eventually(in.tb, patience, "the backfill ends", func() bool {
		in.get("/v1/backfills/"+id, &j)
		return j.ended()
	})
	return j
}

func TestBackfillJobs(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(Config{})
	other := s.start(Config{}) // stands by
	s.history(20)
	awaitAll(in, 21)

	dry := in.awaitBackfill(in.startBackfill(`{"query":"orders-per-minute","dry_run":true}`).ID)
	if len(dry.Reports) != 1 || dry.Reports[0].Published == 0 || dry.State != jobDone || !dry.DryRun {
		t.Errorf("%+v", dry)
	}
	first, second := in.startBackfill(""), in.startBackfill("")
	did := in.awaitBackfill(first.ID)
	if did.State != jobDone || len(did.Reports) != len(in.svc.plan.queries) || did.Reports[0].Published != dry.Reports[0].Published {
		t.Errorf("%+v, a dry run says %+v", did, dry)
	}
	for _, r := range in.awaitBackfill(second.ID).Reports {
		if r.Published != 0 {
			t.Errorf("the second run did %+v", r)
		}
	}
	// Another instance knows too.
	if seen := other.awaitBackfill(first.ID); seen.State != jobDone || len(seen.Reports) != len(did.Reports) {
		t.Errorf("the other instance says %+v", seen)
	}
	for path, want := range map[string]int{"/v1/backfills/nonsense": http.StatusNotFound, "/v1/backfills/" + first.ID: http.StatusOK} {
		if status, body := other.do(http.MethodGet, path, nil, ""); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if status, body := in.do(http.MethodPost, "/v1/backfills", header, `{"query":"nonsense"}`); status != http.StatusNotFound {
		t.Errorf("a query that there is not: %d %s", status, body)
	}
	page := in.windows("orders-per-minute")
	if len(page.Items) == 0 || page.Items[0].Timing != "backfill" || page.Items[0].Start.Year() != 2010 {
		t.Errorf("%v", lines(page))
	}
}

// A job whose instance is gone is said to be interrupted, not running for ever.
func TestBackfillJobOfAnInstanceThatIsGone(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(minutes())
	jobs := newBackfills(in.svc.backfills.backfill)
	j, err := jobs.add("", false)
	if err != nil {
		t.Fatal(err)
	}
	j.State, j.Updated = jobRunning, time.Now().Add(-time.Hour)
	data, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	s.raw(jobs.subject(), nil, data)
	if seen := in.awaitBackfill(j.ID); seen.State != jobInterrupted {
		t.Errorf("%+v", seen)
	}
	for range mostWaiting - 1 {
		if _, err := jobs.add("", false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := jobs.add("", false); err == nil {
		t.Error("there is no end to waiting jobs")
	}
}

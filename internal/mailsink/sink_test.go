package mailsink_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/internal/mailsink"
)

// childDir makes the test program a mail sink of its own, so that a test can kill it.
const childDir = "TIDEMARK_TEST_MAILSINK_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		runChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func runChild(dir string) {
	sink, err := mailsink.New(mailsink.Config{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(sink.Addr())
	if err := sink.Run(context.Background()); err != nil {
		os.Exit(1)
	}
}

// start runs a sink until stop is called or the test ends.
func start(t *testing.T, cfg mailsink.Config) (sink *mailsink.Sink, stop func()) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	sink, err := mailsink.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sink.Run(ctx) }()
	<-sink.Ready()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the sink ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return sink, stop
}

func mailOf(id, text string) []byte {
	return []byte("From: shop@tidemark.local\r\nTo: a@b.example\r\nSubject: hello\r\nMessage-ID: <" + id + ">\r\n\r\n" + text + "\r\n")
}

func send(addr string, to string, raw []byte) error {
	return smtp.SendMail(addr, nil, "shop@tidemark.local", []string{to}, raw)
}

func listing(t *testing.T, sink *mailsink.Sink) []mailsink.Mail {
	t.Helper()
	mails, err := sink.Mails(0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return mails
}

func TestSinkTakesMailAndDecodesIt(t *testing.T) {
	t.Parallel()
	sink, _ := start(t, mailsink.Config{})
	raw := "From: shop@tidemark.local\r\nTo: a@b.example\r\nSubject: =?UTF-8?q?Caf=C3=A9?=\r\nMessage-ID: <one@x>\r\n" +
		"Content-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncr=C3=A8me br=\r\n=C3=BBl=C3=A9e\r\n..dot\r\n"
	if err := send(sink.Addr(), "a@b.example", []byte(raw)); err != nil {
		t.Fatal(err)
	}
	mails := listing(t, sink)
	if len(mails) != 1 {
		t.Fatalf("%d mails, want 1", len(mails))
	}
	m := mails[0]
	if m.ID != "1" || m.MessageID != "one@x" || m.Subject != "Café" || m.Body != "crème brûlée\n..dot\n" || m.From != "shop@tidemark.local" ||
		len(m.To) != 1 || m.To[0] != "a@b.example" || m.Attempts != 1 || m.Refused != 0 || time.Since(m.At) > time.Minute {
		t.Errorf("mail is %+v", m)
	}
}

func TestTheSameMessageIDIsListedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sink, stop := start(t, mailsink.Config{Dir: dir})
	for range 3 {
		if err := send(sink.Addr(), "a@b.example", mailOf("same@x", "hi")); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.SetFaults(mailsink.Faults{TemporaryRate: 1}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"same@x", "later@x", "later@x"} {
		requireCode(t, send(sink.Addr(), "a@b.example", mailOf(id, "hi")), 451)
	}
	if err := sink.SetFaults(mailsink.Faults{}); err != nil {
		t.Fatal(err)
	}
	if err := send(sink.Addr(), "a@b.example", mailOf("later@x", "hi")); err != nil {
		t.Fatal(err)
	}
	check := func(sink *mailsink.Sink) {
		t.Helper()
		mails := listing(t, sink)
		if sink.Total() != 2 || len(mails) != 2 {
			t.Fatalf("total %d, listed %d, want 2", sink.Total(), len(mails))
		}
		if mails[0].Attempts != 4 || mails[0].Refused != 1 {
			t.Errorf("same@x: attempts %d, refused %d; want 4, 1", mails[0].Attempts, mails[0].Refused)
		}
		if mails[1].Attempts != 3 || mails[1].Refused != 2 {
			t.Errorf("later@x: attempts %d, refused %d; want 3, 2", mails[1].Attempts, mails[1].Refused)
		}
	}
	check(sink)
	stop()
	again, _ := start(t, mailsink.Config{Dir: dir})
	check(again)
}

func requireCode(t *testing.T, err error, code int) {
	t.Helper()
	var answer *textproto.Error
	if !errors.As(err, &answer) || answer.Code != code {
		t.Fatalf("answer is %v, want %d", err, code)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	sink, _ := start(t, mailsink.Config{})
	if err := sink.SetFaults(mailsink.Faults{PermanentRate: 1}); err != nil {
		t.Fatal(err)
	}
	requireCode(t, send(sink.Addr(), "a@b.example", mailOf("p@x", "hi")), 550)
	if err := sink.SetFaults(mailsink.Faults{Delay: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := send(sink.Addr(), "a@b.example", mailOf("d@x", "hi")); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("took %s, want 50 ms at least", took)
	}
	for _, bad := range []mailsink.Faults{{TemporaryRate: -1}, {PermanentRate: 2}, {TemporaryRate: 0.6, PermanentRate: 0.6}, {Delay: -1}, {Delay: time.Hour}, {RefusedText: strings.Repeat("x", 201)}} {
		if err := sink.SetFaults(bad); err == nil {
			t.Errorf("SetFaults(%+v) is accepted", bad)
		}
	}
}

// A content filter refuses what is said, not how often or to whom.
func TestRefusedText(t *testing.T) {
	t.Parallel()
	sink, _ := start(t, mailsink.Config{})
	if err := sink.SetFaults(mailsink.Faults{RefusedText: "brûlée"}); err != nil {
		t.Fatal(err)
	}
	requireCode(t, send(sink.Addr(), "a@b.example", mailOf("p@x", "crème brûlée")), 554)
	if err := send(sink.Addr(), "a@b.example", mailOf("q@x", "crème")); err != nil {
		t.Errorf("another mail: %v", err)
	}
	if err := sink.SetFaults(mailsink.Faults{}); err != nil {
		t.Fatal(err)
	}
	if err := send(sink.Addr(), "a@b.example", mailOf("p@x", "crème brûlée")); err != nil {
		t.Errorf("after the switch: %v", err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	sink, _ := start(t, mailsink.Config{})
	t.Run("message size", func(t *testing.T) {
		err := send(sink.Addr(), "a@b.example", mailOf("big@x", strings.Repeat("0123456789abcdef\r\n", 1<<16)))
		requireCode(t, err, 552)
	})
	t.Run("recipients", func(t *testing.T) {
		to := make([]string, 11)
		for i := range to {
			to[i] = fmt.Sprintf("r%d@b.example", i)
		}
		requireCode(t, smtp.SendMail(sink.Addr(), nil, "a@b.example", to, mailOf("many@x", "hi")), 452)
	})
	t.Run("no mail", func(t *testing.T) {
		requireCode(t, send(sink.Addr(), "a@b.example", []byte("this is\x00 no header\r\n\r\n")), 554)
	})
	if sink.Total() != 0 {
		t.Errorf("%d mails taken, want none", sink.Total())
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	sink, _ := start(t, mailsink.Config{MaxConnections: 2})
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	greeting := func() string {
		c, err := net.Dial("tcp", sink.Addr())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		text, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for range 2 {
		if text := greeting(); !strings.HasPrefix(text, "220 ") {
			t.Fatalf("greeting is %q", text)
		}
	}
	if text := greeting(); !strings.HasPrefix(text, "421 ") {
		t.Fatalf("the third greeting is %q, want 421", text)
	}
}

func TestSilenceEndsAConnection(t *testing.T) {
	t.Parallel()
	sink, _ := start(t, mailsink.Config{ReadTimeout: 50 * time.Millisecond})
	c, err := net.Dial("tcp", sink.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	var all bytes.Buffer
	if _, err := all.ReadFrom(c); err != nil {
		t.Fatalf("read until the end: %v", err)
	}
	if !strings.Contains(all.String(), "421 ") {
		t.Errorf("the sink said %q, want 421 at the end", all.String())
	}
}

// A mail that is being answered when the sink stops is answered, although its sender keeps the connection.
func TestStopFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sink, stop := start(t, mailsink.Config{Dir: dir})
	c, err := smtp.Dial(sink.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for _, err := range []error{c.Mail("a@b.example"), c.Rcpt("c@d.example")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(mailOf("flight@x", "hi")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	stop() // must not wait for the kept connection
	again, _ := start(t, mailsink.Config{Dir: dir})
	if again.Total() != 1 {
		t.Errorf("%d mails, want 1", again.Total())
	}
}

func TestATornLastLineIsCutOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sink, stop := start(t, mailsink.Config{Dir: dir})
	for i := range 2 {
		if err := send(sink.Addr(), "a@b.example", mailOf(fmt.Sprintf("m%d@x", i), "hi")); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	path := filepath.Join(dir, "mails.jsonl")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw[:len(raw)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	again, stopAgain := start(t, mailsink.Config{Dir: dir})
	if again.Total() != 1 {
		t.Fatalf("%d mails after the cut, want 1", again.Total())
	}
	if err := send(again.Addr(), "a@b.example", mailOf("m1@x", "hi")); err != nil {
		t.Fatal(err)
	}
	stopAgain()
	third, _ := start(t, mailsink.Config{Dir: dir})
	if mails := listing(t, third); len(mails) != 2 || mails[1].MessageID != "m1@x" || mails[1].Attempts != 1 {
		t.Errorf("mails are %+v", mails)
	}
}

func TestADamagedLedgerIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mails.jsonl"), []byte("{\"kind\":\"refused\",\"body\":\"\"}\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := mailsink.New(mailsink.Config{Dir: dir})
	if !errors.Is(err, mailsink.ErrLedger) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error is %v, want ErrLedger that names line 2", err)
	}
}

// Every mail that was acknowledged is there after a SIGKILL.
func TestAcknowledgedMailSurvivesSIGKILL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := make(chan string, 4096)
	var senders sync.WaitGroup
	for s := range 4 {
		senders.Go(func() {
			for i := range 1000 {
				id := fmt.Sprintf("k%d-%d@x", s, i)
				if send(strings.TrimSpace(addr), "a@b.example", mailOf(id, strings.Repeat("text ", 200))) != nil {
					return // killed
				}
				acknowledged <- id
			}
		})
	}
	for range 50 {
		<-acknowledged // some are sure to be in flight
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	senders.Wait()
	close(acknowledged)

	sink, _ := start(t, mailsink.Config{Dir: dir})
	seen := make(map[string]bool)
	for offset := 0; offset < sink.Total(); offset += 1000 {
		mails, err := sink.Mails(offset, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mails {
			seen[m.MessageID] = true
		}
	}
	for id := range acknowledged {
		if !seen[id] {
			t.Errorf("%s was acknowledged and is not there", id)
		}
	}
}

func TestConcurrentSenders(t *testing.T) {
	t.Parallel()
	sink, _ := start(t, mailsink.Config{})
	var wg sync.WaitGroup
	for s := range 8 {
		wg.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("c%d@x", i) // the same for all senders
				if err := send(sink.Addr(), fmt.Sprintf("to%d@b.example", i%2), mailOf(id, "hi")); err != nil {
					t.Errorf("sender %d: %v", s, err)
				}
			}
		})
	}
	wg.Wait()
	attempts := 0
	mails := listing(t, sink)
	for _, m := range mails {
		attempts += m.Attempts
	}
	if len(mails) != 20 || attempts != 160 {
		t.Errorf("%d mails with %d attempts, want 20 with 160", len(mails), attempts)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	err := mailsink.Config{Addr: "nowhere", MaxConnections: -1}.Validate()
	for _, field := range []string{"Addr", "Dir", "MaxConnections"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("error %v does not name %s", err, field)
		}
	}
}

func ExampleSink() {
	dir, err := os.MkdirTemp("", "mailsink")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	sink, err := mailsink.New(mailsink.Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sink.Run(ctx) }()
	<-sink.Ready()

	mail := []byte("Message-ID: <1@shop>\r\nSubject: Your order\r\n\r\nThank you.\r\n")
	for range 2 { // the second time under the same Message-ID
		if err := smtp.SendMail(sink.Addr(), nil, "shop@example.org", []string{"ann@example.org"}, mail); err != nil {
			fmt.Println(err)
		}
	}
	mails, err := sink.Mails(0, 10)
	fmt.Println(len(mails), mails[0].Subject, mails[0].Attempts, err)
	cancel()
	fmt.Println(<-done)
	// Output:
	// 1 Your order 2 <nil>
	// <nil>
}

package notify

import (
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	if err := (Config{SMTPAddr: "127.0.0.1:25"}).Validate(); err != nil {
		t.Errorf("the least that is needed: %v", err)
	}
	if err := (Config{SMTPAddr: "mail.example:465", SMTPTLS: TLSImplicit, SMTPUsername: "u", SMTPPassword: "p", WebhookURL: "https://x.example/h", WebhookSecret: secret}).Validate(); err != nil {
		t.Errorf("all: %v", err)
	}
	for name, tc := range map[string]struct {
		change func(*Config)
		field  string
	}{
		"no server":         {func(c *Config) { c.SMTPAddr = "" }, "SMTPAddr"},
		"no port":           {func(c *Config) { c.SMTPAddr = "host" }, "SMTPAddr"},
		"user without word": {func(c *Config) { c.SMTPUsername = "u" }, "SMTPPassword"},
		"unknown TLS":       {func(c *Config) { c.SMTPTLS = "some" }, "SMTPTLS"},
		"connections":       {func(c *Config) { c.SMTPConnections = -1 }, "SMTPConnections"},
		"sender":            {func(c *Config) { c.From = "a@b\r\nBcc: c@d" }, "From"},
		"lanes":             {func(c *Config) { c.Lanes = -1 }, "Lanes"},
		"scheme":            {func(c *Config) { c.WebhookURL, c.WebhookSecret = "file:///etc/passwd", secret }, "WebhookURL"},
		"user in URL":       {func(c *Config) { c.WebhookURL, c.WebhookSecret = "https://a:hunter2@b.example", secret }, "WebhookURL"},
		"no secret":         {func(c *Config) { c.WebhookURL = "https://b.example" }, "WebhookSecret"},
		"short secret":      {func(c *Config) { c.WebhookURL, c.WebhookSecret = "https://b.example", "whsec_aHVudGVyMg==" }, "WebhookSecret"},
		"secret alone":      {func(c *Config) { c.WebhookSecret = secret }, "WebhookURL"},
	} {
		c := Config{SMTPAddr: "127.0.0.1:25"}
		tc.change(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), tc.field) {
			t.Errorf("%s: error %v does not name %s", name, err, tc.field)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "aHVudGVyMg")) {
			t.Errorf("%s: the error repeats a secret: %v", name, err)
		}
	}
	if _, err := New(Config{SMTPAddr: "127.0.0.1:25"}, Deps{Topology: events.Topology{}}); err == nil ||
		!strings.Contains(err.Error(), "NATS") || !strings.Contains(err.Error(), "Registry") || !strings.Contains(err.Error(), "Topology") {
		t.Errorf("error %v does not name what is missing", err)
	}
}

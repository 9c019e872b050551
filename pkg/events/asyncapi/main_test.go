package asyncapi_test

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A server that is stopped soon after its start leaves these until they time out.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"))
}

func extraSchema() fs.FS {
	return fstest.MapFS{"shop.parcel.sent.v1.json": {Data: []byte(`{"type": "object", "description": "A parcel was sent."}`)}}
}

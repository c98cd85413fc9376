package metrics

import (
	"net/http"
	"testing"

	"github.com/prometheus/common/expfmt"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzAccept negotiates the form of an answer with any headers.
func FuzzAccept(f *testing.F) {
	f.Add("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,"+
		"text/plain;version=0.0.4", "gzip;q=0, *")
	f.Add("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=NaN", "gzip ; q=1e400")
	f.Fuzz(func(t *testing.T, accept, encoding string) {
		h := http.Header{"Accept": {accept}, "Accept-Encoding": {encoding}}
		fuzztest.Within(t, fuzztest.Small, len(accept)+len(encoding), func() {
			if f := expfmt.NegotiateAccept(h, offered...); f.FormatType() == expfmt.TypeUnknown {
				t.Errorf("%q is answered with %q", accept, f)
			}
			acceptsGzip(h)
		})
	})
}

package metrics

import (
	"bytes"
	"compress/gzip"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
)

// Exposition serves snapshots on /metrics: Prometheus text, OpenMetrics or protobuf, whichever the scraper asks for.
type Exposition struct {
	gather func() Snapshot

	mu  sync.Mutex // guards what follows: one scrape at a time
	set set
	buf bytes.Buffer
	num []byte
}

// NewExposition gives the handler. gather is called once per scrape and must give views brought up to that moment.
func NewExposition(host, version string, gather func() Snapshot) *Exposition {
	e := &Exposition{gather: gather, set: newSet(host, version)}
	e.set.atLeast = meansOver
	return e
}

type textSlot struct {
	labels string // `a="b",c="d"`
	pairs  []*dto.LabelPair
}

// offered are the formats there are; the first of equals is preferred.
var offered = func() []expfmt.Format {
	open, err := expfmt.NewOpenMetricsFormat(expfmt.OpenMetricsVersion_1_0_0)
	if err != nil {
		panic(err) // a constant version is known or it does not compile
	}
	return []expfmt.Format{expfmt.NewFormat(expfmt.TypeProtoDelim), open, expfmt.NewFormat(expfmt.TypeTextPlain)}
}()

// meansOver is the least time over which a gauge is a mean, since several clients may scrape.
const meansOver = 900 * time.Millisecond

// ServeHTTP answers a scrape.
func (e *Exposition) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format := expfmt.NegotiateAccept(r.Header, offered...)
	e.mu.Lock()
	body := e.render(format)
	e.mu.Unlock()
	w.Header().Set("Content-Type", string(format))
	w.Header().Add("Vary", "Accept, Accept-Encoding")
	if acceptsGzip(r.Header) {
		w.Header().Set("Content-Encoding", "gzip")
		zw, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		_, _ = zw.Write(body)
		_ = zw.Close()
		return
	}
	_, _ = w.Write(body)
}

func acceptsGzip(h http.Header) bool {
	for part := range strings.SplitSeq(h.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) == "gzip" {
			return strings.TrimSpace(q) != "q=0"
		}
	}
	return false
}

// render gives the body; e.mu is held.
func (e *Exposition) render(format expfmt.Format) []byte {
	snap := e.gather()
	e.buf.Reset()
	switch format.FormatType() {
	case expfmt.TypeProtoDelim:
		pw := &protoWriter{e: e}
		e.set.run(&snap, pw)
		pw.flush()
	case expfmt.TypeOpenMetrics:
		e.set.run(&snap, &textWriter{e: e, open: true})
		e.buf.WriteString("# EOF\n")
	default:
		e.set.run(&snap, &textWriter{e: e})
	}
	e.set.gone(func(*slot) {})
	return bytes.Clone(e.buf.Bytes())
}

// textWriter writes Prometheus text 0.0.4 or OpenMetrics 1.0.
type textWriter struct {
	e      *Exposition
	open   bool
	fam    *Family
	headed bool
}

func (t *textWriter) family(f *Family) { t.fam, t.headed = f, false }

// head is written before a family's first sample: a family without samples is not mentioned.
func (t *textWriter) head() {
	if t.headed {
		return
	}
	t.headed = true
	b := &t.e.buf
	name := t.fam.Name
	if t.open && t.fam.Kind == Counter {
		name = strings.TrimSuffix(name, "_total")
	}
	for _, s := range []string{"# HELP ", name, " ", t.fam.Help, "\n# TYPE ", name, " ", t.fam.Kind.String(), "\n"} {
		b.WriteString(s)
	}
	if t.open && t.fam.Unit != "" {
		for _, s := range []string{"# UNIT ", name, " ", t.fam.Unit, "\n"} {
			b.WriteString(s)
		}
	}
}

func (t *textWriter) float(s *slot, v float64) {
	t.head()
	t.sample(s, "", "", v)
}

func (t *textWriter) sample(s *slot, suffix, le string, v float64) {
	b := &t.e.buf
	b.WriteString(t.fam.Name)
	b.WriteString(suffix)
	b.WriteByte('{')
	b.WriteString(s.textLabels())
	if le != "" {
		b.WriteString(`,le="`)
		b.WriteString(le)
		b.WriteByte('"')
	}
	b.WriteString("} ")
	t.e.num = strconv.AppendFloat(t.e.num[:0], v, 'g', -1, 64)
	b.Write(t.e.num)
	b.WriteByte('\n')
}

func (t *textWriter) hist(s *slot, h hist) {
	t.head()
	cum := h.zero
	if h.zeroBound {
		t.sample(s, "_bucket", "0.0", float64(cum))
	}
	i := 0
	for _, last := range h.classic {
		for ; i <= last; i++ {
			cum += h.counts[i]
		}
		t.sample(s, "_bucket", bound(h.schema, h.first+int32(last)), float64(cum))
	}
	t.sample(s, "_bucket", "+Inf", float64(h.count))
	t.sample(s, "_sum", "", h.sum)
	t.sample(s, "_count", "", float64(h.count))
}

// bound is the upper bound of a native bucket as the label le has it.
func bound(schema, index int32) string {
	s := strconv.FormatFloat(math.Exp2(math.Ldexp(float64(index), -int(schema))), 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (s *slot) textLabels() string {
	if s.text.labels == "" {
		var b strings.Builder
		for i, p := range s.labels {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(p.name)
			b.WriteString(`="`)
			b.WriteString(escape.Replace(strings.ToValidUTF8(p.value, "�")))
			b.WriteByte('"')
		}
		s.text.labels = b.String()
	}
	return s.text.labels
}

// protoWriter writes length-delimited MetricFamily messages, histograms in native form.
type protoWriter struct {
	e   *Exposition
	fam *dto.MetricFamily
}

func (p *protoWriter) family(f *Family) {
	p.flush()
	kind := map[Kind]dto.MetricType{Counter: dto.MetricType_COUNTER, Gauge: dto.MetricType_GAUGE,
		Histogram: dto.MetricType_HISTOGRAM}[f.Kind]
	p.fam = &dto.MetricFamily{Name: &f.Name, Help: &f.Help, Type: &kind}
	if f.Unit != "" {
		p.fam.Unit = &f.Unit
	}
}

func (p *protoWriter) flush() {
	if p.fam != nil && len(p.fam.Metric) > 0 {
		_, _ = protodelim.MarshalTo(&p.e.buf, p.fam) // a bytes.Buffer takes all there is
	}
	p.fam = nil
}

func (p *protoWriter) float(s *slot, v float64) {
	m := &dto.Metric{Label: s.protoLabels()}
	if *p.fam.Type == dto.MetricType_COUNTER {
		m.Counter = &dto.Counter{Value: &v}
	} else {
		m.Gauge = &dto.Gauge{Value: &v}
	}
	p.fam.Metric = append(p.fam.Metric, m)
}

func (p *protoWriter) hist(s *slot, h hist) {
	d := &dto.Histogram{SampleCount: &h.count, SampleSum: &h.sum, Schema: &h.schema,
		ZeroThreshold: proto.Float64(0x1p-128), ZeroCount: &h.zero}
	ss, deltas := spans(h)
	for _, sp := range ss {
		d.PositiveSpan = append(d.PositiveSpan, &dto.BucketSpan{Offset: proto.Int32(sp.Offset),
			Length: proto.Uint32(sp.Length)})
	}
	d.PositiveDelta = deltas
	if len(ss) == 0 {
		// An empty span tells an empty native histogram from a classic one without buckets.
		d.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
	p.fam.Metric = append(p.fam.Metric, &dto.Metric{Label: s.protoLabels(), Histogram: d})
}

func (s *slot) protoLabels() []*dto.LabelPair {
	if s.text.pairs == nil {
		for _, p := range s.labels {
			s.text.pairs = append(s.text.pairs,
				&dto.LabelPair{Name: proto.String(p.name), Value: proto.String(strings.ToValidUTF8(p.value, "�"))})
		}
	}
	return s.text.pairs
}

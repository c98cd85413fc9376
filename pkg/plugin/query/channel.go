package query

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// maxChannel is the longest channel id Grafana Live takes: "ds/<uid>/<path>" (plugin SDK, live.ParseChannel).
const maxChannel = 160

// channelVersion is the first part of every path. A path of another version is refused, so that a browser tab left open
// over an update of the plugin reloads its query.
const channelVersion = "1"

// maxInflated bounds what a path may inflate to: a forged one must not cost memory.
const maxInflated = 8 << 10

// channelDictionary primes the compression with what paths are made of; the most frequent parts stand last. Changing it
// changes the meaning of paths: raise channelVersion.
const channelDictionary = `"container","pod","reason","thread_state","state"]"uninterruptible","sleeping","runnable","stopped","none"` +
	`"gcstop","dead","idle","syscall","gc","running"]"a":"max""a":"avg""a":"sum"` +
	`"gomaxprocs""imbalance""cpu_frequency""migrations""transitions""syscalls""sched_ticks""global_runq""runq""d_share""thread"` +
	`prometheus|grafana|server|worker|agent|demo|pscope","h":"","c":"","d":"","l":"{{process}} {{p}} {{state}}","r":` +
	`"e":"rate(pscope_p_seconds_total{"b":["host","process","pid","p"],"i":"t":["s":["p":"0-7","g":"{"o":1,"k":"stops""k":"series","m":"` +
	`{"o":1,"k":"timeline","n":5,"x":"{"o":1,"k":"heatmap","n":`

// channelPayload is a live query with keys as short as they get.
type channelPayload struct {
	Org         int64    `json:"o"`
	Kind        Kind     `json:"k"`
	StepSeconds int64    `json:"n,omitempty"`
	Process     string   `json:"x,omitempty"`
	Host        string   `json:"h,omitempty"`
	Container   string   `json:"c,omitempty"`
	Pod         string   `json:"d,omitempty"`
	PID         string   `json:"g,omitempty"`
	Ps          string   `json:"p,omitempty"`
	Metric      Metric   `json:"m,omitempty"`
	States      []string `json:"s,omitempty"`
	Threads     []string `json:"t,omitempty"`
	By          []string `json:"b"` // null: the default; []: no grouping
	Aggregation string   `json:"a,omitempty"`
	Expr        string   `json:"e,omitempty"`
	Legend      string   `json:"l,omitempty"`
	RateHz      float64  `json:"r,omitempty"`
	Stretch     int64    `json:"w,omitempty"` // seconds
}

// Channel is what the path of a live channel says: the whole query and the organisation that may read it.
type Channel struct {
	Org   int64
	Query Query
	// Stretch is how far back its viewers look, 0 where the path doesn't say: what ended longer ago nobody sees any
	// more.
	Stretch time.Duration
}

// ChannelID is the id under which Grafana Live continues the query for one organisation: "ds/<uid>/<path>". A query too
// long for an id is an error.
func (q *Query) ChannelID(uid string, org int64) (string, error) {
	path, err := q.channelPath(org)
	if err != nil {
		return "", err
	}
	id := "ds/" + uid + "/" + path
	if len(id) > maxChannel {
		return "", &Error{What: "the query is too long to stream",
			Why:  fmt.Sprintf("its channel has %d characters, Grafana Live takes %d", len(id), maxChannel),
			Next: "Shorten its regular expressions, or switch live off"}
	}
	return id, nil
}

func (q *Query) channelPath(org int64) (string, error) {
	p := channelPayload{
		Org: org, Kind: q.Kind, StepSeconds: int64(q.Step / time.Second), Process: q.Target.Process,
		Host:      q.Target.Host,
		Container: q.Target.Container, Pod: q.Target.Pod, PID: q.Target.PID, Ps: FormatPs(q.PList), Metric: q.Metric,
		States:  q.States,
		Threads: q.Model.ThreadStates, By: q.By, Aggregation: q.Aggregation, Legend: q.Legend, RateHz: q.RateHz,
		Stretch: int64(roundUp(q.To.Sub(q.From)) / time.Second),
	}
	if q.Metric == MetricState {
		p.Metric = ""
	}
	if q.RateHz == MaxRateHz {
		p.RateHz = 0
	}
	if q.Code() {
		p.Expr = q.Expr
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		return "", err
	}
	var packed bytes.Buffer
	w, err := flate.NewWriterDict(&packed, flate.BestCompression, []byte(channelDictionary))
	if err != nil {
		return "", err
	}
	if _, err := w.Write(bytes.TrimSpace(text.Bytes())); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return channelVersion + "/" + base64.RawURLEncoding.EncodeToString(packed.Bytes()), nil
}

// roundUp makes a stretch of time longer by a thirty-second at most. A range that grows, such as "today so far", keeps
// its channel for a while so: with each new one the panel would begin anew.
func roundUp(stretch time.Duration) time.Duration {
	unit := time.Second
	for unit*64 <= stretch {
		unit *= 2
	}
	return (stretch + unit - 1) / unit * unit
}

// ParseChannel reads the path of a live channel. Its query is checked like any other: paths come from browsers.
func ParseChannel(path string) (Channel, error) {
	bad := func(why string) (Channel, error) {
		return Channel{}, &Error{What: "the live channel can't be read", Why: why, Next: "Reload the dashboard"}
	}
	version, packed, ok := strings.Cut(path, "/")
	if !ok || version != channelVersion {
		return bad("it was made by another version of the plugin")
	}
	raw, err := base64.RawURLEncoding.DecodeString(packed)
	if err != nil {
		return bad(err.Error())
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReaderDict(bytes.NewReader(raw), []byte(channelDictionary)),
		maxInflated+1))
	if err != nil {
		return bad(err.Error())
	}
	if len(text) > maxInflated {
		return bad("it is too long")
	}
	var p channelPayload
	if err := json.Unmarshal(text, &p); err != nil {
		return bad(err.Error())
	}
	const longest = int64(24*time.Hour/time.Second) * 366
	if p.StepSeconds < 0 || p.StepSeconds > longest {
		return bad("its step is out of range")
	}
	if p.Stretch < 0 || p.Stretch > 10*longest {
		return bad("its stretch is out of range")
	}
	q := Query{Model: Model{
		Version: Version, Kind: p.Kind, Target: Target{Host: p.Host, Process: p.Process, Container: p.Container,
			Pod: p.Pod, PID: p.PID},
		Ps: p.Ps, Metric: p.Metric, States: p.States, ThreadStates: p.Threads, By: p.By, Aggregation: p.Aggregation,
		Expr:   p.Expr,
		Legend: p.Legend, RateHz: p.RateHz, Live: true,
	}}
	if p.Expr != "" {
		q.EditorMode = "code"
	}
	if err := q.check(); err != nil {
		return Channel{}, err
	}
	q.Step = max(time.Second, time.Duration(p.StepSeconds)*time.Second)
	q.MaxPoints = defaultPoints
	return Channel{Org: p.Org, Query: q, Stretch: time.Duration(p.Stretch) * time.Second}, nil
}

package plugin

import (
	"context"
	"sync"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/live"
	"github.com/p-scope/p-scope/pkg/plugin/logs"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// SubscribeStream lets a viewer join a channel: the path must hold a query that can be answered, and be of the viewer's
// organisation.
func (d *Datasource) SubscribeStream(_ context.Context,
	req *backend.SubscribeStreamRequest) (*backend.SubscribeStreamResponse, error) {
	ch, err := query.ParseChannel(req.Path)
	if err != nil || d.broken != nil {
		logs.Log.Warn("a live channel was refused", "path", req.Path, "error", err, "settings", d.broken)
		return &backend.SubscribeStreamResponse{Status: backend.SubscribeStreamStatusNotFound}, nil
	}
	if ch.Org != orgOf(req.PluginContext) {
		return &backend.SubscribeStreamResponse{Status: backend.SubscribeStreamStatusPermissionDenied}, nil
	}
	resp := &backend.SubscribeStreamResponse{Status: backend.SubscribeStreamStatusOK}
	if schema := d.channels.schema(req.Path); schema != nil {
		// Who joins a running stream has missed its schema.
		if resp.InitialData, err = backend.NewInitialFrame(schema, data.IncludeSchemaOnly); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// PublishStream is refused: what Ps do is measured, not told.
func (d *Datasource) PublishStream(context.Context, *backend.PublishStreamRequest) (*backend.PublishStreamResponse,
	error) {
	return &backend.PublishStreamResponse{Status: backend.PublishStreamStatusPermissionDenied}, nil
}

// RunStream sends rows for one channel until its last viewer has left or the data source is disposed of.
func (d *Datasource) RunStream(ctx context.Context, req *backend.RunStreamRequest, sender *backend.StreamSender) error {
	if d.broken != nil {
		return sourced(d.broken)
	}
	ch, err := query.ParseChannel(req.Path)
	if err != nil {
		return sourced(err)
	}
	if ch.Org != orgOf(req.PluginContext) {
		return sourced(&query.Error{What: "the live channel belongs to another organisation",
			Next: "Reload the dashboard"})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := d.hub.OnClose(cancel)
	defer stop()
	out := &sink{sender: sender, path: req.Path, channels: d.channels}
	defer d.channels.forget(req.Path)
	past := d.past(ctx, ch)
	if live.Watchable(&ch.Query) && len(d.set.Agents) > 0 {
		return d.follow(ctx, ch.Query, past, out)
	}
	return d.poll(ctx, ch.Query, past, out)
}

// past finds the lanes that the viewers of a channel have in their history. Those of processes that are no more don't
// come with the stream, and Grafana drops what a stream's frame has no field for.
func (d *Datasource) past(ctx context.Context, ch query.Channel) *live.Past {
	past := live.NewPast(ch.Stretch)
	q := ch.Query
	if q.Kind == query.KindTimeline && q.Metric != query.MetricThread {
		q.Metric = query.MetricState
	}
	if q.Kind != query.KindSeries {
		q = q.Lanes()
	}
	q.To = time.Now()
	q.From = q.To.Add(-ch.Stretch)
	// Which lanes there were is told by few points as well as by many: each looks back over a whole step.
	q.Step = max(q.Step, (ch.Stretch / pastPoints).Truncate(time.Second))
	a := answer{}
	curves, _, err := d.curves(ctx, &a, q)
	if err != nil {
		// The stream itself meets the same trouble and says it; without the past it is only poorer.
		logs.Log.Debug("the past of a live channel is not known", "error", err)
	}
	for _, c := range curves {
		past.Saw(c.Labels, c.Times[len(c.Times)-1])
	}
	return past
}

// pastPoints are how many points of history are asked for to find the lanes in it.
const pastPoints = 100

// follow makes rows of the agents' Watches.
func (d *Datasource) follow(ctx context.Context, q query.Query, past *live.Past, out *sink) error {
	newest := make([]*live.Snapshot, len(d.set.Agents))
	arrived := make(chan arrival)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, ag := range d.set.Agents {
		wg.Go(func() { d.followOne(ctx, i, ag, q, arrived) })
	}
	rows := live.NewRows(q, past)
	pause := time.Duration(float64(time.Second) / q.RateHz)
	var next time.Time
	due := time.NewTimer(0)
	defer due.Stop()
	<-due.C
	waiting := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-arrived:
			newest[a.from] = a.snapshot
			if !waiting {
				waiting = true
				due.Reset(max(0, time.Until(next)))
			}
		case <-due.C:
			waiting = false
			next = time.Now().Add(pause)
			out.trouble(newest)
			if err := out.send(rows.Next(newest)); err != nil {
				return err
			}
		}
	}
}

type arrival struct {
	from     int
	snapshot *live.Snapshot
}

// followOne passes on the newest snapshots of one agent.
func (d *Datasource) followOne(ctx context.Context, i int, ag *agent.Agent, q query.Query, arrived chan<- arrival) {
	send := func(s *live.Snapshot) bool {
		select {
		case arrived <- arrival{i, s}:
			return true
		case <-ctx.Done():
			return false
		}
	}
	var s *pscopev1.Selector
	for {
		var err error
		if s, err = selectorFor(ctx, ag, &q); err == nil && s != nil {
			break
		}
		if err != nil && !send(&live.Snapshot{At: time.Now(), Err: err}) {
			return
		}
		// The process may start later.
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second):
		}
	}
	// Which Ps are shown is the reader's business: panels that show different ones share a Watch.
	s.Ps = nil
	f := d.hub.Follow(ag, s)
	defer f.Leave()
	for {
		select {
		case <-ctx.Done():
			return
		case snap := <-f.C:
			if !send(snap) {
				return
			}
		}
	}
}

// poll asks the store again and again, for queries that Watch doesn't answer.
func (d *Datasource) poll(ctx context.Context, q query.Query, past *live.Past, out *sink) error {
	every := time.Second
	for _, h := range d.set.Histories() {
		every = max(every, h.Sample)
	}
	every = max(every, time.Duration(float64(time.Second)/q.RateHz))
	if q.Kind == query.KindHeatmap {
		q = q.Lanes()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		now := time.Now().Truncate(time.Second)
		q.From, q.To = now, now
		a := answer{}
		curves, _, err := d.curves(ctx, &a, q)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			out.notices = []data.Notice{{Severity: data.NoticeSeverityWarning, Text: err.Error()}}
			err = out.send(nil)
		default:
			out.notices = a.notices
			err = out.send(live.Row(&q, curves, past, now))
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sink sends rows; the schema goes with the first row and whenever it or the notices change.
type sink struct {
	sender   *backend.StreamSender
	path     string
	channels *channels

	last    *data.Frame // as sent last
	notices []data.Notice
	told    string // the notices sent last
}

// trouble notes the agents that are away.
func (s *sink) trouble(snapshots []*live.Snapshot) {
	s.notices = nil
	for _, snap := range snapshots {
		if snap != nil && snap.Err != nil {
			s.notices = append(s.notices, data.Notice{Severity: data.NoticeSeverityWarning, Text: "Live data pause, " +
				"connecting again: " + snap.Err.Error()})
		}
	}
}

// send sends a row; nil is a moment without one, in which only notices may be news.
func (s *sink) send(f *data.Frame) error {
	told := ""
	for _, n := range s.notices {
		told += n.Text + "\n"
	}
	if f == nil {
		if told == s.told || s.last == nil && told == "" {
			return nil
		}
		f = data.NewFrame("", data.NewField("time", nil, []time.Time{}))
		if s.last != nil {
			f = withoutRows(s.last)
		}
	}
	include := data.IncludeDataOnly
	if s.last == nil || told != s.told || !sameSchema(s.last, f) {
		include = data.IncludeAll
		if f.Meta == nil {
			f.Meta = &data.FrameMeta{}
		}
		f.Meta.Notices = s.notices
		s.channels.remember(s.path, f)
	}
	if err := s.sender.SendFrame(f, include); err != nil {
		return err
	}
	s.last, s.told = f, told
	return nil
}

// sameSchema is true when rows of b can follow rows of a: the same Ps, under the same names.
func sameSchema(a, b *data.Frame) bool {
	if len(a.Fields) != len(b.Fields) {
		return false
	}
	for i, f := range a.Fields {
		g := b.Fields[i]
		if f.Name != g.Name || f.Type() != g.Type() || !f.Labels.Equals(g.Labels) {
			return false
		}
		if f.Config != nil && g.Config != nil && f.Config.DisplayNameFromDS != g.Config.DisplayNameFromDS {
			return false
		}
	}
	return true
}

// channels remembers the schemas of running streams.
type channels struct {
	mu sync.Mutex
	by map[string]*data.Frame
}

func newChannels() *channels { return &channels{by: map[string]*data.Frame{}} }

func (c *channels) schema(path string) *data.Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[path]
}

func (c *channels) remember(path string, f *data.Frame) {
	schema := withoutRows(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[path] = schema
}

func (c *channels) forget(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by, path)
}

// withoutRows copies the schema of a frame. The SDK's EmptyCopy leaves out the fields' configuration: their names,
// units and colours.
func withoutRows(f *data.Frame) *data.Frame {
	c := f.EmptyCopy()
	if f.Meta != nil {
		meta := *f.Meta
		c.Meta = &meta
	}
	for i, field := range f.Fields {
		c.Fields[i].Config = field.Config
	}
	return c
}

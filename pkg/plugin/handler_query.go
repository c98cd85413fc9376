package plugin

import (
	"context"
	"fmt"
	"sync"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/p-scope/p-scope/pkg/plugin/logs"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// QueryData answers the queries of a panel or an alert rule, all at once. One that fails doesn't keep the others from
// being answered.
func (d *Datasource) QueryData(ctx context.Context, req *backend.QueryDataRequest) (*backend.QueryDataResponse, error) {
	fromAlert := req.GetHTTPHeader(backend.FromAlertHeaderName) == "true" ||
		req.Headers[backend.FromAlertHeaderName] == "true"
	resp := backend.NewQueryDataResponse()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, dq := range req.Queries {
		wg.Go(func() {
			r := d.respond(ctx, orgOf(req.PluginContext), dq, fromAlert)
			mu.Lock()
			defer mu.Unlock()
			resp.Responses[dq.RefID] = r
		})
	}
	wg.Wait()
	return resp, nil
}

// respond answers one query. A panic in it is that query's error, not the plugin's end: other panels share the process.
func (d *Datasource) respond(ctx context.Context, org int64, dq backend.DataQuery,
	fromAlert bool) (resp backend.DataResponse) {
	defer func() {
		if r := recover(); r != nil {
			logs.Log.Error("answering a query failed", "refId", dq.RefID, "panic", r)
			resp = failure(fmt.Errorf("answering the query failed: %v. This is a fault of P-Scope; please report it "+
				"with the query", r))
		}
	}()
	if d.broken != nil {
		return failure(d.broken)
	}
	q, err := query.Parse(dq, fromAlert)
	if err != nil {
		return failure(err)
	}
	if fromAlert {
		if q, err = q.ForAlert(); err != nil {
			return failure(err)
		}
	}
	a, err := d.answer(ctx, q)
	if err != nil {
		return failure(err)
	}
	d.addChannel(&a, org)
	for _, f := range a.frames {
		f.RefID = dq.RefID
	}
	if len(a.frames) > 0 {
		a.frames[0].AppendNotices(a.notices...)
	}
	return backend.DataResponse{Frames: a.frames, Status: backend.StatusOK}
}

// answer is what a query is answered with.
type answer struct {
	query   query.Query // as answered: an empty target has become the busiest process
	frames  data.Frames
	notices []data.Notice
	// streams is true when a live channel can continue the only frame.
	streams bool
}

func (a *answer) note(severity data.NoticeSeverity, format string, args ...any) {
	a.notices = append(a.notices, data.Notice{Severity: severity, Text: fmt.Sprintf(format, args...)})
}

// away notes the sources that did not answer, while others did.
func (a *answer) away(failures []error) {
	for _, f := range failures {
		a.note(data.NoticeSeverityWarning, "Not shown: %v", f)
	}
}

// answer asks and builds the frames.
func (d *Datasource) answer(ctx context.Context, q query.Query) (answer, error) {
	switch q.Kind {
	case query.KindSeries:
		return d.series(ctx, q)
	case query.KindHeatmap:
		return d.heatmap(ctx, q)
	case query.KindTimeline:
		return d.timeline(ctx, q)
	case query.KindStops:
		return d.stops(ctx, q)
	case query.KindBlocked:
		return d.blocked(ctx, q)
	case query.KindDiagnosis:
		return d.diagnosis(ctx, q)
	default: // targets; Parse lets no other through
		return d.targets(ctx, q)
	}
}

// addChannel lets Grafana Live continue the answer to a live query.
func (d *Datasource) addChannel(a *answer, org int64) {
	if !a.query.Live || a.query.FromAlert || len(a.frames) != 1 {
		return
	}
	if !a.streams {
		a.note(data.NoticeSeverityInfo, "This answer does not stream. Set a refresh interval on the dashboard instead")
		return
	}
	id, err := a.query.ChannelID(d.uid, org)
	if err != nil {
		a.note(data.NoticeSeverityWarning, "%v", err)
		return
	}
	a.frames[0].Meta.Channel = id
}

// orgOf is the organisation that asks.
func orgOf(pc backend.PluginContext) int64 {
	//lint:ignore SA1019 its successor, Namespace, names the same organisation in a form that differs between Grafana's editions
	return pc.OrgID
}

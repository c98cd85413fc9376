package plugin

import (
	"context"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/p-scope/p-scope/pkg/plugin/frames"
	"github.com/p-scope/p-scope/pkg/plugin/live"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// series answers with one frame per series; a live query with one wide frame, which its channel continues.
func (d *Datasource) series(ctx context.Context, q query.Query) (answer, error) {
	a := answer{query: q, streams: true}
	curves, sent, err := d.curves(ctx, &a, q)
	if err != nil {
		return a, err
	}
	look := live.LookOf(&q)
	look.Query = sent
	if q.Live && !q.FromAlert {
		a.frames = data.Frames{frames.Wide(curves, look)}
	} else {
		a.frames = frames.Series(curves, look)
	}
	return a, nil
}

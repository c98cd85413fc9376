//go:build linux

package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// Loss is what an agent has lost for one reason.
type Loss struct {
	Reason  string  `json:"reason"`            // as the label of pscope_lost_events_total
	Process string  `json:"process,omitempty"` // empty: of no process in particular
	PID     string  `json:"pid,omitempty"`
	Count   float64 `json:"count"`
}

// lossQuery is asked of the agent's own store.
const lossQuery = `sum by (reason, process, process_pid) (pscope_lost_events_total) > 0`

// Losses asks an agent what is missing from its picture, the most first.
func (o *Options) Losses(ctx context.Context) ([]Loss, error) {
	c, base, err := o.http()
	if err != nil {
		return nil, err
	}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/query?query="+url.QueryEscape(lossQuery),
		nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string `json:"error"`
		Data  struct {
			Result []struct {
				Metric map[string]string  `json:"metric"`
				Value  [2]json.RawMessage `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Error != "" {
		return nil, fmt.Errorf("it does not say what it lost: %s %s", resp.Status, answer.Error)
	}
	var out []Loss
	for _, r := range answer.Data.Result {
		var text string
		if err := json.Unmarshal(r.Value[1], &text); err != nil {
			return nil, fmt.Errorf("it does not say what it lost: %w", err)
		}
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("it does not say what it lost: %w", err)
		}
		out = append(out, Loss{Reason: r.Metric["reason"], Process: r.Metric["process"], PID: r.Metric["process_pid"],
			Count: n})
	}
	slices.SortFunc(out, func(a, b Loss) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	return out, nil
}

// Command plugin is the smallest backend plugin that uses every part of the protocol the preview bridges.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/datasource"
	"github.com/grafana/grafana-plugin-sdk-go/backend/instancemgmt"
	"github.com/grafana/grafana-plugin-sdk-go/data"
)

type source struct{ socket string }

func main() {
	factory := func(_ context.Context, s backend.DataSourceInstanceSettings) (instancemgmt.Instance, error) {
		var jsonData struct{ SocketPath string }
		if err := json.Unmarshal(s.JSONData, &jsonData); err != nil {
			return nil, err
		}
		return &source{socket: jsonData.SocketPath}, nil
	}
	if err := datasource.Manage("pscope-pscope-datasource", factory, datasource.ManageOpts{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (s *source) QueryData(_ context.Context, req *backend.QueryDataRequest) (*backend.QueryDataResponse, error) {
	out := backend.NewQueryDataResponse()
	for _, q := range req.Queries {
		if q.QueryType == "fail" {
			out.Responses[q.RefID] = backend.ErrDataResponse(backend.StatusBadRequest, "as asked")
			continue
		}
		frame := data.NewFrame(s.socket,
			data.NewField("time", nil, []time.Time{q.TimeRange.From, q.TimeRange.To}),
			data.NewField("alert", nil, []string{req.Headers["FromAlert"], q.Interval.String()}))
		out.Responses[q.RefID] = backend.DataResponse{Frames: data.Frames{frame}}
	}
	return out, nil
}

func (s *source) CheckHealth(context.Context, *backend.CheckHealthRequest) (*backend.CheckHealthResult, error) {
	result := &backend.CheckHealthResult{Status: backend.HealthStatusOk, Message: "socket " + s.socket,
		JSONDetails: []byte(`{"path":"` + os.Getenv("PATH") + `"}`)}
	if s.socket == "gone" {
		result.Status = backend.HealthStatusError
	}
	return result, nil
}

// CallResource streams the request line and then numbers every 20 ms until the caller goes away; "left" tells whether
// one did.
var left = make(chan struct{}, 1)

func (s *source) CallResource(ctx context.Context, req *backend.CallResourceRequest,
	sender backend.CallResourceResponseSender) error {
	if req.Path == "left" {
		select {
		case <-left:
			return sender.Send(&backend.CallResourceResponse{Status: http.StatusOK, Body: []byte("yes")})
		case <-time.After(5 * time.Second):
			return sender.Send(&backend.CallResourceResponse{Status: http.StatusRequestTimeout, Body: []byte("no")})
		}
	}
	head := fmt.Sprintf("%s %s %s %q\n", req.Method, req.URL, req.Body, req.Headers["Cookie"])
	if err := sender.Send(&backend.CallResourceResponse{Status: http.StatusAccepted,
		Headers: map[string][]string{"X-Kind": {"numbers"}}, Body: []byte(head)}); err != nil {
		return err
	}
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			left <- struct{}{}
			return nil
		case <-time.After(20 * time.Millisecond):
		}
		if err := sender.Send(&backend.CallResourceResponse{Body: fmt.Appendf(nil, "%d\n", n)}); err != nil {
			left <- struct{}{}
			return nil
		}
	}
}

func (s *source) SubscribeStream(_ context.Context,
	req *backend.SubscribeStreamRequest) (*backend.SubscribeStreamResponse, error) {
	if req.Path == "unknown" {
		return &backend.SubscribeStreamResponse{Status: backend.SubscribeStreamStatusNotFound}, nil
	}
	return &backend.SubscribeStreamResponse{Status: backend.SubscribeStreamStatusOK}, nil
}

func (s *source) PublishStream(context.Context, *backend.PublishStreamRequest) (*backend.PublishStreamResponse, error) {
	return &backend.PublishStreamResponse{Status: backend.PublishStreamStatusPermissionDenied}, nil
}

func (s *source) RunStream(ctx context.Context, _ *backend.RunStreamRequest, sender *backend.StreamSender) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-time.After(20 * time.Millisecond):
			frame := data.NewFrame("", data.NewField("time", nil, []time.Time{now}),
				data.NewField("pid", nil, []int64{int64(os.Getpid())}))
			if err := sender.SendFrame(frame, data.IncludeAll); err != nil {
				return err
			}
		}
	}
}

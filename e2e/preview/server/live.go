package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/genproto/pluginv2"
	"golang.org/x/net/websocket"
)

// Grafana keeps a stream for a moment after its last viewer left, so that a reload does not restart it. Shorter here:
// tests wait for it.
const streamLinger = 2 * time.Second

// Messages waiting for one page and channel; when it is full the oldest goes and is counted.
const liveQueue = 32

// liveRequest is what a page sends: start or stop watching a channel ds/<uid>/<path>.
type liveRequest struct {
	Op      string          `json:"op"` // subscribe or unsubscribe
	Channel string          `json:"channel"`
	UID     string          `json:"uid"`
	Path    string          `json:"path"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// liveMessage is what a page gets. Frame is a data frame as JSON: schema and data at first, then mostly data.
type liveMessage struct {
	Channel string          `json:"channel"`
	Frame   json.RawMessage `json:"frame,omitempty"`
	Error   string          `json:"error,omitempty"`
	// Dropped counts messages this page was too slow for since the message before.
	Dropped uint64 `json:"dropped,omitempty"`
}

// liveSocket is the way to one page; it may be slow or gone.
type liveSocket struct {
	mu      sync.Mutex
	queue   []liveMessage
	dropped map[string]uint64
	wake    chan struct{}
}

// push never blocks: a page that does not keep up loses the oldest messages, counted.
func (s *liveSocket) push(m liveMessage) {
	s.mu.Lock()
	if len(s.queue) >= liveQueue {
		s.dropped[s.queue[0].Channel] += 1 + s.queue[0].Dropped
		s.queue = s.queue[1:]
	}
	m.Dropped, s.dropped[m.Channel] = s.dropped[m.Channel], 0
	s.queue = append(s.queue, m)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *liveSocket) pop() (liveMessage, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return liveMessage{}, false
	}
	m := s.queue[0]
	s.queue = s.queue[1:]
	return m, true
}

// liveRun is one RunStream of the plugin, shared by all pages that watch its channel.
type liveRun struct {
	viewers map[*liveSocket]bool
	cancel  context.CancelFunc
}

// liveHub bridges the plugin's streams to pages the way Grafana Live does: SubscribeStream for each viewer, one
// RunStream a channel.
type liveHub struct {
	ctx     context.Context
	log     *slog.Logger
	client  func(context.Context) (*pluginClient, error)
	context func(uid string) (*pluginv2.PluginContext, error)

	mu   sync.Mutex
	runs map[string]*liveRun
}

// serve handles one page until it goes away.
func (h *liveHub) serve(ws *websocket.Conn) {
	socket := &liveSocket{wake: make(chan struct{}, 1), dropped: map[string]uint64{}}
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	// A closed connection is the one thing that ends a blocked Receive.
	go func() { <-ctx.Done(); _ = ws.Close() }()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-socket.wake:
			}
			for m, ok := socket.pop(); ok; m, ok = socket.pop() {
				if websocket.JSON.Send(ws, m) != nil {
					cancel()
					return
				}
			}
		}
	}()
	watched := map[string]bool{}
	for {
		var req liveRequest
		if err := websocket.JSON.Receive(ws, &req); err != nil {
			break
		}
		switch req.Op {
		case "subscribe":
			if watched[req.Channel] {
				continue
			}
			if err := h.subscribe(ctx, socket, req); err != nil {
				socket.push(liveMessage{Channel: req.Channel, Error: err.Error()})
				continue
			}
			watched[req.Channel] = true
		case "unsubscribe":
			delete(watched, req.Channel)
			h.leave(socket, req.Channel)
		}
	}
	for channel := range watched {
		h.leave(socket, channel)
	}
}

func (h *liveHub) subscribe(ctx context.Context, socket *liveSocket, req liveRequest) error {
	pctx, err := h.context(req.UID)
	if err != nil {
		return err
	}
	client, err := h.client(ctx)
	if err != nil {
		return err
	}
	answer, err := client.stream.SubscribeStream(ctx, &pluginv2.SubscribeStreamRequest{PluginContext: pctx,
		Path: req.Path, Data: req.Data})
	if err != nil {
		return fmt.Errorf("the plugin failed to open the stream: %w", err)
	}
	switch answer.Status {
	case pluginv2.SubscribeStreamResponse_OK:
	case pluginv2.SubscribeStreamResponse_NOT_FOUND:
		return errors.New("the plugin knows no such stream")
	case pluginv2.SubscribeStreamResponse_PERMISSION_DENIED:
		return errors.New("the plugin refuses this stream to this user")
	default:
		return fmt.Errorf("the plugin answered the subscription with status %s", answer.Status)
	}
	if len(answer.Data) > 0 {
		socket.push(liveMessage{Channel: req.Channel, Frame: answer.Data})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	run := h.runs[req.Channel]
	if run == nil {
		runCtx, cancel := context.WithCancel(h.ctx)
		run = &liveRun{viewers: map[*liveSocket]bool{}, cancel: cancel}
		h.runs[req.Channel] = run
		go h.run(runCtx, run, req)
	}
	run.viewers[socket] = true
	return nil
}

// run keeps the plugin's RunStream of one channel going, across restarts of the plugin and streams that end by
// themselves.
func (h *liveHub) run(ctx context.Context, run *liveRun, req liveRequest) {
	delay := firstRestartDelay
	for ctx.Err() == nil {
		began := time.Now()
		err := h.runOnce(ctx, run, req)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steadyAfter {
			delay = firstRestartDelay
		}
		h.log.Warn("a live stream ended, opening it again", "channel", req.Channel, "reason", err, "in", delay)
		h.publish(run, liveMessage{Channel: req.Channel, Error: err.Error()})
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, lastRestartDelay)
	}
}

func (h *liveHub) runOnce(ctx context.Context, run *liveRun, req liveRequest) error {
	pctx, err := h.context(req.UID)
	if err != nil {
		return err
	}
	client, err := h.client(ctx)
	if err != nil {
		return err
	}
	stream, err := client.stream.RunStream(ctx, &pluginv2.RunStreamRequest{PluginContext: pctx, Path: req.Path,
		Data: req.Data})
	if err != nil {
		return fmt.Errorf("the plugin failed to run the stream: %w", err)
	}
	for {
		packet, err := stream.Recv()
		if err == io.EOF {
			return errors.New("the plugin ended the stream")
		}
		if err != nil {
			return fmt.Errorf("the stream broke: %w", err)
		}
		h.publish(run, liveMessage{Channel: req.Channel, Frame: packet.Data})
	}
}

func (h *liveHub) publish(run *liveRun, m liveMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for socket := range run.viewers {
		socket.push(m)
	}
}

// leave takes one page off a channel; the stream ends streamLinger after its last viewer left.
func (h *liveHub) leave(socket *liveSocket, channel string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	run := h.runs[channel]
	if run == nil {
		return
	}
	delete(run.viewers, socket)
	if len(run.viewers) > 0 {
		return
	}
	time.AfterFunc(streamLinger, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(run.viewers) == 0 && h.runs[channel] == run {
			delete(h.runs, channel)
			run.cancel()
		}
	})
}

// Streams returns how many streams of the plugin run.
func (h *liveHub) Streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.runs)
}

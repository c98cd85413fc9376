package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/pstate"
	"github.com/p-scope/p-scope/pkg/store"
	"github.com/p-scope/p-scope/pkg/store/promapi"
	"github.com/p-scope/p-scope/pkg/timeline"
)

type fixture struct {
	*Server
	source   *viewtest.Source
	timeline *timeline.Store
	url      string
	client   pscopev1connect.ScopeServiceClient
	stop     func()
}

// serve runs a whole server on a free port and a socket until the test ends.
func serve(t *testing.T, change func(o *Options)) *fixture {
	t.Helper()
	f := &fixture{source: viewtest.New(2, 4, time.Now().Add(-time.Minute)), timeline: timeline.New(timeline.Options{})}
	o := Options{
		Collector: f.source, Timeline: f.timeline, Host: "test-host", Version: "1.2.3", Listen: "127.0.0.1:0",
		Socket: filepath.Join(t.TempDir(), "pscope.sock"), Sys: t.TempDir(),
	}
	if change != nil {
		change(&o)
	}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stopped := false
	f.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve did not return within 10 s")
		}
	}
	t.Cleanup(f.stop)
	f.Server = s
	f.url = "http://" + s.Addr().String()
	f.client = pscopev1connect.NewScopeServiceClient(http.DefaultClient, f.url)
	for i := 0; ; i++ {
		res, err := http.Get(f.url + "/-/ready")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK || o.TLS != nil {
				break
			}
		}
		if o.TLS != nil {
			break
		}
		if i > 100 {
			t.Fatal("never ready")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return f
}

// TestWhoAttendsIsToldOfRequests: of those for history and states, until they have been answered, and not of scrapes.
func TestWhoAttendsIsToldOfRequests(t *testing.T) {
	var begun, answered atomic.Int64
	f := serve(t, func(o *Options) {
		o.Attend = func() func() {
			begun.Add(1)
			return func() { answered.Add(1) }
		}
	})
	scrape, err := http.Get(f.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	scrape.Body.Close()
	if n := begun.Load(); n != 0 {
		t.Errorf("a scrape and looks whether the server is ready were told of %d times", n)
	}
	if _, err := f.client.ListTargets(t.Context(), connect.NewRequest(&pb.ListTargetsRequest{})); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := f.client.Watch(ctx, connect.NewRequest(&pb.WatchRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	wait := func(what string, n *atomic.Int64, want int64) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); n.Load() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d, want %d", what, n.Load(), want)
			}
		}
	}
	wait("begun", &begun, 2)
	wait("answered while a stream is open", &answered, 1)
	cancel()
	wait("answered", &answered, 2)
}

func h2c() *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: p}}
}

func TestListTargetsOverEveryProtocol(t *testing.T) {
	f := serve(t, nil)
	f.source.Refused = []pstate.Target{{Key: pstate.Key{PID: 5, StartTime: 5}, Process: "old", GoVersion: "go1.19",
		Source: pstate.SourceRefused, Reason: "Go 1.19 is older than 1.21"}}
	overSocket := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn,
		error) {
		return new(net.Dialer).DialContext(ctx, "unix", f.opts.Socket)
	}}}
	for name, c := range map[string]pscopev1connect.ScopeServiceClient{
		"connect":        pscopev1connect.NewScopeServiceClient(http.DefaultClient, f.url),
		"connect json":   pscopev1connect.NewScopeServiceClient(http.DefaultClient, f.url, connect.WithProtoJSON()),
		"grpc":           pscopev1connect.NewScopeServiceClient(h2c(), f.url, connect.WithGRPC()),
		"grpc-web":       pscopev1connect.NewScopeServiceClient(http.DefaultClient, f.url, connect.WithGRPCWeb()),
		"connect socket": pscopev1connect.NewScopeServiceClient(overSocket, "http://pscope"),
	} {
		res, err := c.ListTargets(t.Context(), connect.NewRequest(&pb.ListTargetsRequest{}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n := len(res.Msg.Targets); n != 3 {
			t.Errorf("%s: %d targets, want 3", name, n)
		}
		refused := res.Msg.Targets[0]
		if refused.Source != "refused" || refused.Reason == "" {
			t.Errorf("%s: the refused target says %q, %q", name, refused.Source, refused.Reason)
		}
		if got := res.Msg.Targets[1]; got.Gomaxprocs != 4 || got.Host != "test-host" || got.Process != "server-0" {
			t.Errorf("%s: got %v", name, got)
		}
		if a := res.Msg.Agent; a.Mode != "ebpf" || a.Version != "1.2.3" || len(a.Lacks) != 1 ||
			a.Lacks[0].What != "CPU frequencies" || a.Lacks[0].Fix == "" {
			t.Errorf("%s: agent %v", name, a)
		}
	}
}

func TestRealGRPCWebText(t *testing.T) {
	f := serve(t, nil)
	frame := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
	}
	body := base64.StdEncoding.EncodeToString(
		frame(&pb.WatchRequest{RateHz: 20, Selector: &pb.Selector{Process: "server-1"}}))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, f.url+pscopev1connect.ScopeServiceWatchProcedure,
		strings.NewReader(body))
	req.Header.Set("Content-Type", "application/grpc-web-text")
	req.Header.Set("X-Grpc-Web", "1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if ct := res.Header.Get("Content-Type"); ct != "application/grpc-web-text+proto" {
		t.Errorf("content type %q", ct)
	}
	// Read as a browser does: whatever whole groups of four have come, padding anywhere.
	var bin []byte
	r := bufio.NewReader(res.Body)
	quad := make([]byte, 4)
	start := time.Now()
	for messages := 0; messages < 5; {
		if _, err := io.ReadFull(r, quad); err != nil {
			t.Fatalf("after %d messages: %v", messages, err)
		}
		out, err := base64.StdEncoding.DecodeString(string(quad))
		if err != nil {
			t.Fatalf("%q is no base64: %v", quad, err)
		}
		bin = append(bin, out...)
		for len(bin) >= 5 && len(bin) >= 5+int(binary.BigEndian.Uint32(bin[1:5])) {
			n := 5 + int(binary.BigEndian.Uint32(bin[1:5]))
			var msg pb.WatchResponse
			if err := proto.Unmarshal(bin[5:n], &msg); err != nil {
				t.Fatal(err)
			}
			if len(msg.Targets) != 1 || len(msg.Targets[0].Ps) != 4 {
				t.Fatalf("got %v", &msg)
			}
			bin = bin[n:]
			messages++
		}
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("five messages at 20 Hz took %v: they were held back", d)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

func TestMetricsAndHistoryOnOnePort(t *testing.T) {
	db, err := store.Open(store.Options{Dir: t.TempDir(), Interval: 50 * time.Millisecond,
		Coarse: 50 * time.Millisecond,
		Host:   "test-host", Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	answers := promapi.New(db, promapi.Options{Version: "1.2.3"})
	defer answers.Close()
	f := serve(t, func(o *Options) {
		o.Store = struct {
			*store.Store
			*promapi.API
		}{db, answers}
	})
	if code, body := get(t, f.url+"/metrics"); code != 200 ||
		!strings.Contains(body,
			`pscope_p_seconds_total{host="test-host",cgroup="/system.slice/server-0.service",process="server-0",process_pid="1000",p="3",state="idle"}`) {
		t.Errorf("/metrics: %d\n%.600s", code, body)
	}
	deadline := time.Now().Add(10 * time.Second)
	var sum float64
	for sum < 3.9 || sum > 4.1 {
		if time.Now().After(deadline) {
			t.Fatalf("the states of four Ps sum to %v seconds a second, want 4", sum)
		}
		time.Sleep(100 * time.Millisecond)
		_, body := get(t, f.url+"/api/v1/query?query="+
			url.QueryEscape(`sum(rate(pscope_p_seconds_total{process="server-1"}[1s]))`))
		var res struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		if err := json.Unmarshal([]byte(body), &res); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if len(res.Data.Result) == 1 {
			_ = json.Unmarshal([]byte(res.Data.Result[0].Value[1].(string)), &sum)
		}
	}
	if code, _ := get(t, f.url+"/-/healthy"); code != 200 {
		t.Errorf("/-/healthy: %d", code)
	}
	if code, body := get(t, f.url+"/api/v1/rules"); code != 404 || !strings.Contains(body, "does not offer") {
		t.Errorf("/api/v1/rules: %d %s", code, body)
	}
}

func TestPromtoolAcceptsMetrics(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool on this machine")
	}
	f := serve(t, nil)
	f.source.Change(0, func(v *pstate.TargetView) {
		var h pstate.Histogram
		h.Observe(time.Millisecond)
		v.StopHist = map[string]pstate.Histogram{`GC "mark" \ termination`: h}
		v.Lost = map[string]uint64{"ring_full": 3}
		v.Reconciled = map[string]uint64{"status": 1}
	})
	_, body := get(t, f.url+"/metrics")
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(body)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestTokenAndTLS(t *testing.T) {
	cert, key, pool, clientPair := certificates(t)
	secure, err := LoadTLS(cert, key, cert, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f := serve(t, func(o *Options) { o.TLS, o.Token = secure, func() string { return "secret" } })
	base := "https://" + f.Addr().String()
	client := func(withCert bool) *http.Client {
		c := &tls.Config{RootCAs: pool}
		if withCert {
			c.Certificates = []tls.Certificate{clientPair}
		}
		return &http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}}
	}
	if _, err := client(false).Get(base + "/-/healthy"); err == nil {
		t.Error("a client without a certificate was served")
	}
	res, err := client(true).Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusUnauthorized || !bytes.Contains(body, []byte("--token-file")) {
		t.Errorf("without the token: %d %s", res.StatusCode, body)
	}
	if res.Proto != "HTTP/2.0" {
		t.Errorf("over TLS the protocol is %s, want HTTP/2.0", res.Proto)
	}
	scope := pscopev1connect.NewScopeServiceClient(client(true), base, connect.WithGRPC())
	_, err = scope.ListTargets(t.Context(), connect.NewRequest(&pb.ListTargetsRequest{}))
	if connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("gRPC without the token: %v", err)
	}
	req := connect.NewRequest(&pb.ListTargetsRequest{})
	req.Header().Set("Authorization", "Bearer secret")
	if _, err = scope.ListTargets(t.Context(), req); err != nil {
		t.Errorf("gRPC with the token: %v", err)
	}
}

func TestSocketIsPrivateAndRefusesASecondAgent(t *testing.T) {
	f := serve(t, nil)
	info, err := os.Stat(f.opts.Socket)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o660 {
		t.Errorf("the socket's mode is %o, want 660", got)
	}
	_, err = NewServer(Options{Collector: f.source, Timeline: f.timeline, Socket: f.opts.Socket})
	if err == nil || !strings.Contains(err.Error(), "another agent (pid "+itoa(os.Getpid())+")") {
		t.Errorf("second agent on the socket: %v", err)
	}
	_, err = NewServer(Options{Collector: f.source, Timeline: f.timeline, Listen: f.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("second agent on the port: %v", err)
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestStaleSocketIsReplacedAndOtherFilesStay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as after kill -9
	s, err := NewServer(Options{Collector: viewtest.New(0, 0, time.Now()), Timeline: timeline.New(timeline.Options{}),
		Socket: path})
	if err != nil {
		t.Fatalf("a stale socket must be replaced: %v", err)
	}
	s.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = NewServer(Options{Collector: viewtest.New(0, 0, time.Now()), Timeline: timeline.New(timeline.Options{}),
		Socket: path}); err == nil {
		t.Error("a file that is no socket was replaced")
	}
	if b, _ := os.ReadFile(path); string(b) != "mine" {
		t.Error("the file is gone")
	}
}

func TestWithoutHistory(t *testing.T) {
	f := serve(t, nil)
	code, body := get(t, f.url+"/api/v1/query?query=up")
	if code != http.StatusServiceUnavailable || !json.Valid([]byte(body)) || !strings.Contains(body, "--data-dir") {
		t.Errorf("%d %s", code, body)
	}
}

var _ Collector = collector.Collector(nil)

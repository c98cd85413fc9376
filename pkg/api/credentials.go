//go:build linux

package api

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// lookEvery is how often files with a token or certificates are looked at, at most: when a request needs them.
const lookEvery = time.Second

// watchedFiles loads something out of files, and again when one of them has changed. What can't be used is refused at
// first; later the one before stays in use, and the log says so once.
type watchedFiles[T any] struct {
	paths []string
	load  func() (T, error)
	log   *slog.Logger

	mu     sync.Mutex
	now    T
	seen   []fileID
	looked time.Time
}

// fileID tells a file from what it was before.
type fileID struct {
	dev, ino uint64
	size     int64
	modified time.Time
}

func identify(path string) (id fileID) {
	if info, err := os.Stat(path); err == nil {
		id = fileID{size: info.Size(), modified: info.ModTime()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			id.dev, id.ino = st.Dev, st.Ino
		}
	}
	return id
}

func watchFiles[T any](log *slog.Logger, load func() (T, error), paths ...string) (*watchedFiles[T], error) {
	w := &watchedFiles[T]{paths: paths, load: load, log: log, looked: time.Now(), seen: make([]fileID, len(paths))}
	for i, p := range paths {
		w.seen[i] = identify(p)
		w.checkMode(p)
	}
	var err error
	w.now, err = load()
	return w, err
}

// get gives what the files hold now.
func (w *watchedFiles[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.looked) < lookEvery {
		return w.now
	}
	w.looked = time.Now()
	changed := false
	for i, p := range w.paths {
		if id := identify(p); id != w.seen[i] {
			w.seen[i], changed = id, true
			w.checkMode(p)
		}
	}
	if !changed {
		return w.now
	}
	next, err := w.load()
	if err != nil {
		w.log.Error("a changed file can't be used; what it held before stays in use", "files",
			strings.Join(w.paths, ", "), "err", err)
		return w.now
	}
	w.now = next
	w.log.Info("a changed file is in use now", "files", strings.Join(w.paths, ", "))
	return next
}

// checkMode warns of a secret that others than the agent's user may read. Certificates are no secret.
func (w *watchedFiles[T]) checkMode(path string) {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return
	}
	if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte("-----BEGIN")) &&
		!bytes.Contains(b, []byte("PRIVATE KEY-----")) {
		return
	}
	w.log.Warn("a secret may be read by others than its owner: chmod 0600 it, or mount it with mode 0400", "file", path,
		"mode", fmt.Sprintf("%#o", info.Mode().Perm()))
}

// mostOfToken bounds a token; the header that carries it is bounded, too.
const mostOfToken = 4096

// LoadToken gives the token that a file holds, as it is at each call: a new one counts from a second after it was
// written. The file holds one line of printable characters without blanks.
func LoadToken(path string, log *slog.Logger) (func() string, error) {
	w, err := watchFiles(log, func() (string, error) { return readToken(path) }, path)
	if err != nil {
		return nil, err
	}
	return w.get, nil
}

func readToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("can't read the token: %w; name a readable file with --token-file", err)
	}
	token := strings.TrimSpace(string(b))
	const advice = "write one into it, for example with 'openssl rand -hex 32'"
	switch {
	case token == "":
		return "", fmt.Errorf("%s is empty: a token must stand in it; %s", path, advice)
	case strings.ContainsAny(token, "\r\n"):
		return "", fmt.Errorf("%s holds more than one line: which of them is the token can't be told; %s", path, advice)
	case len(token) > mostOfToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s holds no token: at most %d printable ASCII characters without blanks; %s", path,
			mostOfToken, advice)
	}
	return token, nil
}

// expiresSoon is how long before its end a certificate is warned of.
const expiresSoon = 7 * 24 * time.Hour

// LoadTLS gives the settings of the TCP listener: certificate and key, and, if clientCA is not empty, the authority
// whose certificates clients must show. All are PEM files, read again when they change. One that has expired or is not
// valid yet is refused.
func LoadTLS(cert, key, clientCA string, log *slog.Logger) (*tls.Config, error) {
	if cert == "" || key == "" {
		return nil, errors.New("TLS needs both --tls-cert and --tls-key")
	}
	paths := []string{cert, key}
	if clientCA != "" {
		paths = append(paths, clientCA)
	}
	w, err := watchFiles(log, func() (*tls.Config, error) { return readTLS(cert, key, clientCA, log) }, paths...)
	if err != nil {
		return nil, err
	}
	c := w.now.Clone()
	var said atomic.Int64 // when the log last said that the certificate has expired
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := w.get()
		if leaf := now.Certificates[0].Leaf; time.Now().After(leaf.NotAfter) {
			if last := said.Load(); time.Since(time.Unix(last, 0)) > time.Hour &&
				said.CompareAndSwap(last, time.Now().Unix()) {
				log.Error("the certificate has expired, clients will refuse it: renew it; a new file is taken up by "+
					"itself", "file", cert, "expired", leaf.NotAfter.UTC().Format(time.RFC3339))
			}
		}
		return now, nil
	}
	return c, nil
}

func readTLS(cert, key, clientCA string, log *slog.Logger) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the certificate %s and the key %s can't be used: %w; both must be PEM and belong "+
			"together", cert, key, err)
	}
	if err := checkDates(cert, pair.Leaf, time.Now(), log); err != nil {
		return nil, err
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"}}
	if clientCA == "" {
		return c, nil
	}
	text, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, fmt.Errorf("the authority for client certificates can't be read: %w; see --tls-client-ca", err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	var unusable error
	usable := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err == nil {
			err = checkDates(clientCA, ca, time.Now(), log)
		}
		if err != nil {
			unusable = err
			continue
		}
		c.ClientCAs.AddCert(ca)
		usable++
	}
	switch {
	case usable == 0 && unusable != nil:
		return nil, fmt.Errorf("no authority in %s can be used: %w; see --tls-client-ca", clientCA, unusable)
	case usable == 0:
		return nil, fmt.Errorf("%s holds no certificate in PEM form; see --tls-client-ca", clientCA)
	case unusable != nil:
		log.Warn("an authority for client certificates can't be used, the others can", "err", unusable)
	}
	return c, nil
}

// checkDates refuses a certificate outside of its dates and warns of one that will soon be.
func checkDates(path string, c *x509.Certificate, now time.Time, log *slog.Logger) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("the certificate of %q in %s has expired on %s: renew it", c.Subject, path,
			c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("the certificate of %q in %s is not valid before %s: see whether this host's clock is right",
			c.Subject, path, c.NotBefore.UTC().Format(time.RFC3339))
	case c.NotAfter.Sub(now) < expiresSoon:
		log.Warn("a certificate expires soon: renew it; a new file is taken up by itself", "file", path, "subject",
			c.Subject.String(), "expires", c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

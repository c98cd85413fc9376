package main

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"

	"github.com/p-scope/p-scope/tools/kernels/plan"
)

// kernelOf takes the kernel out of a package, beside it.
func kernelOf(ctx context.Context, pkg string) (string, error) {
	to := strings.TrimSuffix(pkg, ".deb") + ".vmlinuz"
	if exists(to) {
		return to, nil
	}
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", pkg)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("unpack %s: %w", pkg, err)
	}
	found, err := extractKernel(out, to)
	// The rest is not wanted.
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err == nil && !found {
		err = errors.New("it holds no vmlinuz")
	}
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", pkg, err)
	}
	return to, nil
}

// extractKernel writes the first file called vmlinuz, or vmlinuz-VERSION, of a tar.
func extractKernel(r io.Reader, to string) (bool, error) {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		name := path.Base(h.Name)
		if h.Typeflag != tar.TypeReg || name != "vmlinuz" && !strings.HasPrefix(name, "vmlinuz-") {
			continue
		}
		// Under another name until it is whole.
		f, err := os.CreateTemp(filepath.Dir(to), ".vmlinuz")
		if err != nil {
			return false, err
		}
		_, err = io.Copy(f, t)
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), to)
		}
		if err != nil {
			os.Remove(f.Name())
			return false, err
		}
		return true, nil
	}
}

// inGuest is a file of the host and where the guest has it.
type inGuest struct{ from, to string }

// writeInitramfs writes a guest's first file system: its first process, a plan, and files. It is not compressed: an
// emulated machine is slower at unpacking than this one is at reading.
func writeInitramfs(to, initProgram string, p plan.Plan, files []inGuest) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffered := bufio.NewWriterSize(f, 1<<20)
	w := cpio.NewWriter(buffered)
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	files = append([]inGuest{{initProgram, "/init"}}, files...)
	dirs := []string{"/dev", "/proc", "/sys", "/tmp", "/run", "/var", "/var/lib"}
	for _, file := range files {
		for d := path.Dir(file.to); d != "/"; d = path.Dir(d) {
			dirs = append(dirs, d)
		}
	}
	slices.Sort(dirs)
	for _, d := range slices.Compact(dirs) {
		if err := w.WriteHeader(&cpio.Header{Name: d[1:], Mode: cpio.TypeDir | 0o755, Links: 2}); err != nil {
			return err
		}
	}
	for _, file := range files {
		if err := addFile(w, file); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(&cpio.Header{Name: plan.File[1:], Mode: cpio.TypeReg | 0o644, Size: int64(len(text)),
		Links: 1}); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return errors.Join(w.Close(), buffered.Flush())
}

func addFile(w *cpio.Writer, file inGuest) error {
	f, err := os.Open(file.from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := cpio.FileMode(info.Mode().Perm()) | cpio.TypeReg
	if err := w.WriteHeader(&cpio.Header{Name: file.to[1:], Mode: mode, Size: info.Size(), Links: 1}); err != nil {
		return err
	}
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("%s: %w", file.from, err)
	}
	return nil
}

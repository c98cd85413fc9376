package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Opening a FIFO waits for a writer. A user who puts one where a library was must not make the agent wait.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	fifo, file, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	for name, fine := range map[string]bool{fifo: false, dir: false, link: false, file: true} {
		ended := make(chan error, 1)
		go func() {
			f, err := OpenRegular(name)
			if err == nil {
				err = f.Close()
			}
			ended <- err
		}()
		select {
		case err := <-ended:
			if (err == nil) != fine {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("opening %s does not come back", name)
		}
	}
}

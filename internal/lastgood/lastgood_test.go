package lastgood_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onecall-dev/onecall/internal/lastgood"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheLastGoodValueStays(t *testing.T) {
	t.Parallel()
	name, parsed := filepath.Join(t.TempDir(), "file"), 0
	value := lastgood.New(func(contents [][]byte) (string, error) {
		parsed++
		if string(contents[0]) == "bad" {
			return "half", errors.New("is bad")
		}
		return string(contents[0]), nil
	}, name)
	check := func(want string, fails bool, times int) {
		t.Helper()
		if got, err := value.Read(); got != want || (err != nil) != fails || parsed != times {
			t.Errorf("Read = %q, %v after %d parses; want %q, an error: %v, %d", got, err, parsed, want, fails, times)
		}
	}
	check("", true, 0)
	write(t, name, "bad")
	check("", true, 1)
	write(t, name, "one")
	check("one", false, 2)
	check("one", false, 2)
	write(t, name, "bad")
	check("one", true, 3)
	check("one", true, 4) // it may have become good, such as a certificate whose time has come
	write(t, name, "one")
	check("one", false, 4)
	write(t, name, "")
	check("", false, 5)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	check("", true, 5)
}

// TestASwappedLinkIsSeen replaces files as Kubernetes does: the folder is a symbolic link
// that is renamed. Their sizes and times are equal.
func TestASwappedLinkIsSeen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := time.Now()
	for _, generation := range []string{"1", "2"} {
		folder := filepath.Join(dir, generation)
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, "file"), generation)
		if err := os.Chtimes(filepath.Join(folder, "file"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	link := func(generation string) {
		t.Helper()
		if err := errors.Join(os.Symlink(generation, filepath.Join(dir, "new")), os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "data"))); err != nil {
			t.Fatal(err)
		}
	}
	link("1")
	value := lastgood.New(func(contents [][]byte) (string, error) { return string(contents[0]), nil }, filepath.Join(dir, "data", "file"))
	for _, generation := range []string{"1", "2", "1"} {
		link(generation)
		if got, err := value.Read(); err != nil || got != generation {
			t.Errorf("Read = %q, %v, want %q", got, err, generation)
		}
	}
}

func TestAPollEndsWhenItIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int64
		stop := lastgood.Poll(func() { reads.Add(1) })
		time.Sleep(3*lastgood.Interval + time.Second)
		stop()
		time.Sleep(10 * lastgood.Interval)
		if got := reads.Load(); got != 3 {
			t.Errorf("it was read %d times, want 3", got)
		}
	})
}

// Run runs the commands of pages, each page in an empty folder of its own, and compares what
// they print with what the page shows.
//
//	make tutorial PAGES=docs/tutorial.md
//
// It changes two things in the commands: a clone of Onecall is this checkout, and programs
// that would listen on a fixed port listen on a free one. make publishes the modules of this
// checkout, so that commands which install or require Onecall get it.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/onecall-dev/onecall/internal/pages"
)

// patience is how long one block may take. The first one compiles much.
const patience = 5 * time.Minute

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	for _, path := range flag.Args() {
		begun := time.Now()
		if err := run(ctx, path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:gocritic // stop has nothing to do at the end
		}
		fmt.Printf("%s: all commands print what it shows, after %v\n", path, time.Since(begun).Round(time.Second))
	}
}

// run runs a page.
func run(ctx context.Context, path string) error {
	page, err := pages.Read(path)
	if err != nil {
		return err
	}
	checkout, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "page-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder) //nolint:errcheck // it is a temporary folder
	work, tools := filepath.Join(folder, "work"), filepath.Join(folder, "bin")
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	etcd, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	service, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	runner := &pages.Runner{
		Dir:         work,
		Environment: environment(folder, tools, etcd),
		Replace: strings.NewReplacer(
			"git clone https://github.com/onecall-dev/onecall\n", "ln -s '"+checkout+"' onecall\n",
			"onecall dev\n", "onecall dev --listen "+etcd+"\n",
			"http://127.0.0.1:2379", "http://"+etcd, "127.0.0.1:8443", service,
		),
		Patience: patience,
		Begin: func(block pages.Block) {
			first, _, _ := strings.Cut(block.Text, "\n")
			fmt.Printf("%s:%d: %s: %s\n", path, block.Line, block.Comment, first)
		},
	}
	defer runner.Close()
	return runner.Run(ctx, page)
}

// environment returns that of the terminals. Without the variables of this process, nothing
// configures the programs but the page.
func environment(folder, tools, etcd string) []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "ONECALL_") && !strings.HasPrefix(variable, "MAKE") && !strings.HasPrefix(variable, "MFLAGS=") {
			kept = append(kept, variable)
		}
	}
	return append(kept,
		"ONECALL_ETCD_ENDPOINTS=http://"+etcd, "GOBIN="+tools,
		"PATH="+tools+string(os.PathListSeparator)+os.Getenv("PATH"), "XDG_CONFIG_HOME="+folder,
	)
}

// freeAddress returns an address on which nothing listens.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

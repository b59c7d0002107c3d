package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/onecall-dev/onecall/bench/cputime"
)

// process is a child process. It writes a line when it is ready, answers each line with
// a line, and ends when its input ends.
type process struct {
	command *exec.Cmd
	lines   *bufio.Scanner
	input   io.WriteCloser
	// first is the line that it wrote when it was ready; took is the time from exec to
	// that line.
	first string
	took  time.Duration
}

func spawn(ctx context.Context, role, endpoint string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, self, "-role", role, "-etcd", endpoint)
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{command: command, lines: bufio.NewScanner(output), input: input}
	if !p.lines.Scan() {
		return nil, errors.Join(fmt.Errorf("the process %s did not start", role), p.lines.Err(), p.stop())
	}
	p.first, p.took = p.lines.Text(), time.Since(began)
	return p, nil
}

// ask writes a line and reads the answer into out, which is JSON.
func (p *process) ask(line string, out any) error {
	if _, err := io.WriteString(p.input, line+"\n"); err != nil {
		return err
	}
	if !p.lines.Scan() {
		return errors.Join(errors.New("the process has ended"), p.lines.Err())
	}
	return json.Unmarshal(p.lines.Bytes(), out)
}

func (p *process) stop() error {
	return errors.Join(p.input.Close(), p.command.Wait())
}

// answer runs in a child and answers each line of the input.
func answer(to func(line string) (any, error)) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		out, err := to(lines.Text())
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
			return err
		}
	}
	return lines.Err()
}

// usage is the CPU time and the memory of a process.
type usage struct {
	CPU        time.Duration
	Bytes      uint64 // of heap and stacks, after a collection
	Goroutines int
}

func use() usage {
	runtime.GC()
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return usage{CPU: cpu(), Bytes: memory.HeapAlloc + memory.StackInuse, Goroutines: runtime.NumGoroutine()}
}

// cpu returns the CPU time that the process has used.
func cpu() time.Duration {
	used, err := cputime.Used()
	if err != nil {
		panic(err) // a process can always read its own times
	}
	return used
}

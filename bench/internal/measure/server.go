package measure

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Server is a child process that runs a server.
type Server struct {
	// Address is where it listens, and Rest what else it wrote after it.
	Address, Rest string

	command *exec.Cmd
	lines   *bufio.Scanner
	ask     io.WriteCloser
}

// Start starts a program that calls [Serve], with arguments, and with additional variables
// in its environment.
func Start(ctx context.Context, program string, arguments []string, environment ...string) (*Server, error) {
	command := exec.CommandContext(ctx, program, arguments...)
	command.Env = append(os.Environ(), environment...)
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	s := &Server{command: command, lines: bufio.NewScanner(output), ask: input}
	if !s.lines.Scan() {
		return nil, errors.Join(fmt.Errorf("the server %q gave no address", arguments), s.lines.Err(), s.Stop())
	}
	s.Address, s.Rest, _ = strings.Cut(s.lines.Text(), " ")
	return s, nil
}

// Used returns the server's usage so far.
func (s *Server) Used() (used Usage, err error) {
	if _, err := s.ask.Write([]byte("\n")); err != nil {
		return used, err
	}
	if !s.lines.Scan() {
		return used, errors.Join(errors.New("the server has ended"), s.lines.Err())
	}
	err = json.Unmarshal(s.lines.Bytes(), &used)
	return used, err
}

// Stop ends the server and waits for it.
func (s *Server) Stop() error {
	return errors.Join(s.ask.Close(), s.command.Wait())
}

// Serve runs a server in the process that [Start] started. run serves until its context
// ends, and calls ready once with a line that begins with its address. Serve then answers
// each line of its input with its usage, and ends run when the input ends. What run prints
// goes to the error output.
func Serve(ctx context.Context, run func(ctx context.Context, ready func(line string)) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := os.Stdout
	os.Stdout = os.Stderr
	first, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, func(line string) {
			select {
			case first <- line:
			default:
			}
		})
	}()
	select {
	case line := <-first:
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	case err := <-ended:
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := json.NewEncoder(out).Encode(Use()); err != nil {
			return err
		}
	}
	cancel()
	return errors.Join(lines.Err(), <-ended)
}

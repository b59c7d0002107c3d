package executionlog

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// end ends each entry of a file, so that an entry that was cut short is recognized.
const end = ";"

// File is where the handlers of one process record their runs, for a log in another
// process. Each record is one write to a file that is only appended to, so that it
// outlives a kill of the process. Its methods are safe for all goroutines.
type File struct {
	file *os.File
}

// Open opens the file of one process, and creates it if it does not exist. Close closes
// it.
func Open(path string) (*File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("execution log: %w", err)
	}
	return &File{file: file}, nil
}

// Ran records that the handler of a call started. After an error the handler must not
// go on.
func (f *File) Ran(callID string) error {
	if callID == "" || strings.ContainsAny(callID, "\n"+end) {
		return fmt.Errorf("execution log: call id %q is empty or has a line break or %q: give each call a plain one", callID, end)
	}
	if _, err := f.file.WriteString("\n" + callID + end + "\n"); err != nil {
		return fmt.Errorf("execution log: %w", err)
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// ReadFolder adds the runs that the files of a folder hold whose names end in [FileEnd].
func (l *Log) ReadFolder(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*"+FileEnd))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := l.Read(file); err != nil {
			return err
		}
	}
	return nil
}

// FileEnd is how the names of the files end in which processes record runs.
const FileEnd = ".runs"

// Read adds the runs that a file holds.
func (l *Log) Read(path string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("execution log: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewScanner(file)
	l.mu.Lock()
	defer l.mu.Unlock()
	for lines.Scan() {
		id, whole := strings.CutSuffix(lines.Text(), end)
		switch {
		case whole:
			l.call(id).runs++
		case id != "":
			l.torn++
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("execution log: %s: %w", path, err)
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const (
	frameworkModule = "github.com/onecall-dev/onecall"
	// commandFolder is the folder of the command, from the root.
	commandFolder = "cmd/onecall"
	commandModule = frameworkModule + "/" + commandFolder
)

// proxy is a folder in the form of a module proxy.
type proxy struct {
	dir     string
	root    string // of the repository
	version string
}

// publish adds the modules of the framework and the command, as a release has them.
func (p proxy) publish(ctx context.Context) error {
	listed, err := exec.CommandContext(ctx, "git", "-C", p.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output() //nolint:gosec // the repository's root
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	var all, ofCommand []zip.File
	for name := range strings.SplitSeq(strings.TrimRight(string(listed), "\x00"), "\x00") {
		file := source{path: name, name: filepath.Join(p.root, filepath.FromSlash(name))}
		if _, err := os.Lstat(file.name); err != nil { // removed, and not committed
			continue
		}
		all = append(all, file)
		if within, ok := strings.CutPrefix(name, commandFolder+"/"); ok {
			file.path = within
			if within == "go.mod" {
				if file.name, err = p.released(file.name); err != nil {
					return err
				}
			}
			ofCommand = append(ofCommand, file)
		}
	}
	if err := p.add(frameworkModule, all); err != nil {
		return err
	}
	return p.add(commandModule, ofCommand)
}

// released writes the go.mod of the command as make release writes it, and returns its name.
// It requires the framework in the same version.
func (p proxy) released(name string) (string, error) {
	text, err := os.ReadFile(name) //nolint:gosec // of the repository
	if err != nil {
		return "", err
	}
	file, err := modfile.Parse(name, text, nil)
	if err != nil {
		return "", err
	}
	if err := file.AddRequire(frameworkModule, p.version); err != nil {
		return "", err
	}
	formatted, err := file.Format()
	if err != nil {
		return "", err
	}
	out := filepath.Join(p.dir, "go.mod")
	return out, writeFile(out, formatted)
}

// writeFile writes a file and its folders.
func writeFile(name string, data []byte) error {
	const folderMode, fileMode = 0o755, 0o644
	if err := os.MkdirAll(filepath.Dir(name), folderMode); err != nil {
		return err
	}
	return os.WriteFile(name, data, fileMode) //nolint:gosec // in a temporary folder
}

// add adds a module.
func (p proxy) add(name string, files []zip.File) error {
	at := filepath.Join(p.dir, filepath.FromSlash(name), "@v")
	info, err := json.Marshal(map[string]any{"Version": p.version, "Time": time.Now().UTC()})
	if err != nil {
		return err
	}
	var mod []byte
	for _, file := range files {
		if file.Path() == "go.mod" {
			if mod, err = content(file); err != nil {
				return err
			}
		}
	}
	var packed bytes.Buffer
	if err := zip.Create(&packed, module.Version{Path: name, Version: p.version}, files); err != nil {
		return err
	}
	for extension, data := range map[string][]byte{"info": info, "mod": mod, "zip": packed.Bytes()} {
		if err := writeFile(filepath.Join(at, p.version+"."+extension), data); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(at, "list"), []byte(p.version+"\n"))
}

// source is a file of a module. It implements [zip.File].
type source struct {
	path string // in the module
	name string // on the disk
}

func (s source) Path() string { return s.path }

func (s source) Lstat() (fs.FileInfo, error) { return os.Lstat(s.name) }

func (s source) Open() (io.ReadCloser, error) { return os.Open(s.name) }

func content(of zip.File) ([]byte, error) {
	opened, err := of.Open()
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	return io.ReadAll(opened)
}

// forget removes the modules from the cache of the go command.
func (p proxy) forget(cache string) {
	for _, name := range []string{frameworkModule, commandModule} {
		unpacked := filepath.Join(cache, filepath.FromSlash(name)+"@"+p.version)
		_ = filepath.WalkDir(unpacked, func(name string, entry fs.DirEntry, err error) error {
			const writable = 0o700 // the go command makes folders that only root can change
			if err == nil && entry.IsDir() {
				return os.Chmod(name, writable) //nolint:gosec // a folder that only the go command writes
			}
			return err
		})
		_ = os.RemoveAll(unpacked)
		found, _ := filepath.Glob(filepath.Join(cache, "cache", "download", filepath.FromSlash(name), "@v", p.version+".*"))
		for _, each := range found {
			_ = os.Remove(each)
		}
	}
}

// contents returns the files below a folder with their contents, by their paths.
func contents(dir string) (map[string]string, error) {
	found := make(map[string]string)
	files := os.DirFS(dir)
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == "bin": // what make builds
			return fs.SkipDir
		case entry.IsDir():
			return nil
		}
		data, err := fs.ReadFile(files, name)
		found[name] = string(data)
		return err
	})
	return found, err
}

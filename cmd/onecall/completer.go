package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
)

// The cache of completions is short-lived and bounded, because a registry may have any
// names.
const (
	cachedFor      = time.Minute
	maxCacheFiles  = 16
	maxCacheBytes  = 4 << 20
	cacheExtension = ".json"
)

// cached is what completions of one registry have read, in a file of the user's cache.
type cached struct {
	// Read is when the names of the APIs were read.
	Read time.Time                     `json:"read"`
	APIs []string                      `json:"apis"`
	RPCs map[string]cachedDescriptions `json:"rpcs"`
}

// cachedDescriptions are the RPCs of an API.
type cachedDescriptions struct {
	Read time.Time                  `json:"read"`
	RPCs []framework.RPCDescription `json:"rpcs"`
}

// completer has the names of a registry for one completion.
type completer struct {
	//nolint:containedctx // it lives as long as one completion
	ctx     context.Context
	program *program
	file    string // "" without a folder for it
	known   cached
	changed bool

	registry *etcd.Registry // nil until it is needed
	bus      *framework.Bus // the same
}

func (p *program) newCompleter(ctx context.Context) (*completer, error) {
	config, err := p.etcdConfig()
	if err != nil {
		return nil, err
	}
	c := &completer{ctx: ctx, program: p}
	if dir, err := os.UserCacheDir(); err == nil {
		of := sha256.Sum256(fmt.Appendf(nil, "%q", []any{config.Endpoints, config.Namespace, config.Username, config.CertFile}))
		c.file = filepath.Join(dir, "onecall", fmt.Sprintf("%x%s", of[:8], cacheExtension))
		c.read()
	}
	return c, nil
}

// read reads the file. If it cannot be used, nothing is known.
func (c *completer) read() {
	if info, err := os.Stat(c.file); err != nil || info.Size() > maxCacheBytes {
		return
	}
	content, err := os.ReadFile(c.file)
	if err != nil || json.Unmarshal(content, &c.known) != nil {
		c.known = cached{}
	}
}

// close writes the file if more is known now. An error only makes the next completion
// slower.
func (c *completer) close() {
	if c.bus != nil {
		_ = c.bus.Close()
	}
	if c.registry != nil {
		_ = c.registry.Close() // its error is always nil
	}
	if !c.changed || c.file == "" {
		return
	}
	content, err := json.Marshal(c.known)
	if err != nil || len(content) > maxCacheBytes || replaceFile(c.file, content) != nil {
		return
	}
	removeOldest(filepath.Dir(c.file))
}

// removeOldest leaves maxCacheFiles files in a folder.
func removeOldest(dir string) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+cacheExtension))
	if err != nil || len(names) <= maxCacheFiles {
		return
	}
	written := make(map[string]time.Time)
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Mode()&fs.ModeType == 0 {
			written[name] = info.ModTime()
		}
	}
	slices.SortFunc(names, func(a, b string) int { return written[b].Compare(written[a]) })
	for _, name := range names[maxCacheFiles:] {
		_ = os.Remove(name)
	}
}

// fresh reports whether what was read then can be used now.
func fresh(read time.Time) bool {
	age := time.Since(read)
	return age >= 0 && age < cachedFor
}

// open opens the registry and a bus.
func (c *completer) open() error {
	if c.bus != nil {
		return nil
	}
	options, err := c.program.busOptions()
	if err != nil {
		return err
	}
	if c.registry == nil {
		if c.registry, err = c.program.registry(); err != nil {
			return err
		}
	}
	c.bus, err = framework.NewBus(c.registry, options...)
	return err
}

// apis returns the names of all APIs.
func (c *completer) apis() []string {
	if fresh(c.known.Read) {
		return c.known.APIs
	}
	if c.open() != nil {
		return nil
	}
	names, err := c.registry.APIs(c.ctx)
	if err != nil {
		return nil
	}
	c.known.Read, c.known.APIs, c.changed = time.Now(), names, true
	return names
}

// rpcs returns the RPCs of an API.
func (c *completer) rpcs(api string) []framework.RPCDescription {
	if known := c.known.RPCs[api]; fresh(known.Read) {
		return known.RPCs
	}
	if c.open() != nil {
		return nil
	}
	described, err := c.bus.Describe(c.ctx, api)
	if err != nil {
		return nil
	}
	if c.known.RPCs == nil {
		c.known.RPCs = make(map[string]cachedDescriptions)
	}
	for name, old := range c.known.RPCs {
		if !fresh(old.Read) {
			delete(c.known.RPCs, name)
		}
	}
	c.known.RPCs[api], c.changed = cachedDescriptions{time.Now(), described.RPCs}, true
	return described.RPCs
}

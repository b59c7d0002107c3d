package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/internal/etcdclient"
	"github.com/onecall-dev/onecall/internal/schema"
)

// isLoopback reports whether only programs on the same machine reach an address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && etcdclient.Loopback(host)
}

// examinedAtOnce is how many instances are reached at the same time.
const examinedAtOnce = 16

// examineInstances checks the addresses, and whether each instance can be reached from here.
func (d *doctor) examineInstances(ctx context.Context, entries []etcd.Entry) {
	var instances []discovery.Instance
	keys := make(map[discovery.Instance]string)
	remote := slices.ContainsFunc(d.config.Endpoints, func(endpoint string) bool {
		parsed, err := url.Parse(endpoint)
		return err == nil && !etcdclient.Loopback(parsed.Hostname())
	})
	for _, entry := range entries {
		if entry.Instance.API == "" {
			continue
		}
		instances = append(instances, entry.Instance)
		keys[entry.Instance] = entry.Key
		remote = remote || !isLoopback(entry.Instance.Address)
	}
	doubled := d.examineAddresses(instances, remote)
	if d.unusable {
		return // for want of its own files it can reach none
	}
	slots := make(chan struct{}, examinedAtOnce)
	var reached sync.WaitGroup
	expiring := new(chains)
	for _, instance := range instances {
		if instance.State == discovery.Draining || doubled[instance.Address] {
			continue // it need not be reachable
		}
		slots <- struct{}{}
		reached.Go(func() {
			defer func() { <-slots }()
			chain, err := d.reach(ctx, instance)
			switch {
			case ctx.Err() != nil:
			case err == nil:
				expiring.add(instance.Address, chain)
			case d.stillThere(ctx, keys[instance]):
				d.found("instance", fmt.Sprintf("%s at %s cannot be reached from here", instance.API, instance.Address), err.Error(),
					"do what the reason says; if the process has ended, its key goes with its lease")
			}
		})
	}
	reached.Wait()
	for _, address := range slices.Sorted(maps.Keys(expiring.of)) {
		d.examineChain("of the instance at "+address, expiring.of[address])
	}
}

// chains are the certificates of instances, by their addresses.
type chains struct {
	mu sync.Mutex
	of map[string][]*x509.Certificate
}

func (c *chains) add(address string, chain []*x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = make(map[string][]*x509.Certificate)
	}
	c.of[address] = chain
}

// reach makes a call to an instance, as a bus does, and returns its certificates.
func (d *doctor) reach(ctx context.Context, instance discovery.Instance) ([]*x509.Certificate, error) {
	conn, err := d.program.dial(instance)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // its call has ended
	var instanceSide peer.Peer
	if _, err := roundTrip(ctx, conn, grpc.Peer(&instanceSide)); err != nil {
		return nil, err
	}
	if secure, ok := instanceSide.AuthInfo.(credentials.TLSInfo); ok {
		return secure.State.PeerCertificates, nil
	}
	return nil, nil
}

// stillThere reports whether etcd still has a key, as far as is known.
func (d *doctor) stillThere(ctx context.Context, key string) bool {
	gone := false
	_ = d.client(ctx, d.config.Endpoints, func(ctx context.Context, client *clientv3.Client) error {
		reply, err := client.Get(ctx, key, clientv3.WithCountOnly())
		gone = err == nil && reply.Count == 0
		return err
	})
	return !gone
}

// examineSchemas compares the schemas of the instances of each API.
func (d *doctor) examineSchemas(ctx context.Context, registry *etcd.Registry, entries []etcd.Entry) {
	byAPI := make(map[string]map[string]discovery.Instance) // by the API and the digest
	for _, entry := range entries {
		instance := entry.Instance
		if instance.API == "" || instance.Schema == "" {
			continue
		}
		if byAPI[instance.API] == nil {
			byAPI[instance.API] = make(map[string]discovery.Instance)
		}
		if first, ok := byAPI[instance.API][instance.Schema]; !ok || instance.Started.Before(first.Started) {
			byAPI[instance.API][instance.Schema] = instance
		}
	}
	for _, api := range slices.Sorted(maps.Keys(byAPI)) {
		var read []published
		for _, digest := range slices.Sorted(maps.Keys(byAPI[api])) {
			one, err := publishedBy(ctx, registry, byAPI[api][digest])
			if err != nil {
				d.found("schema", fmt.Sprintf("the schema of %s at %s cannot be read", api, byAPI[api][digest].Address),
					"so it cannot be called by name or described: "+err.Error(), "restart the instance, with the same version of Onecall as others")
				continue
			}
			read = append(read, one)
		}
		d.compareSchemas(api, read)
	}
}

// published is a schema with an instance that publishes it.
type published struct {
	instance discovery.Instance
	schema   *schema.Schema
}

func publishedBy(ctx context.Context, registry *etcd.Registry, instance discovery.Instance) (published, error) {
	packed, err := registry.Descriptors(ctx, instance)
	if err != nil {
		return published{}, err
	}
	if packed == "" {
		return published{}, errors.New("its key is not in etcd")
	}
	unpacked, err := schema.Unpack(packed, instance.Service)
	if err == nil && unpacked.PublishedDigest() != instance.Schema {
		err = fmt.Errorf("it has the digest %s, and the instance says %s", unpacked.PublishedDigest(), instance.Schema)
	}
	return published{instance, unpacked}, err
}

// maxShownDifferences is how many differences a finding shows.
const maxShownDifferences = 3

// compareSchemas compares the schemas of an API. Callers that were built for an older one
// must be able to call instances with a newer one. Newer callers may need what is new.
func (d *doctor) compareSchemas(api string, all []published) {
	slices.SortFunc(all, func(a, b published) int { return a.instance.Started.Compare(b.instance.Started) })
	for i, older := range all {
		for _, newer := range all[i+1:] {
			differences := schema.Compare(api, older.schema.Service, newer.schema.Service)
			if len(differences) == 0 {
				continue
			}
			var texts []string
			for _, difference := range differences[:min(len(differences), maxShownDifferences)] {
				texts = append(texts, difference.String())
			}
			if more := len(differences) - len(texts); more > 0 {
				texts = append(texts, fmt.Sprintf("and %d more", more))
			}
			d.found("schema", fmt.Sprintf("the instances of %s have incompatible schemas", api),
				fmt.Sprintf("callers that were built for the one at %s (version %q, here) may fail at the one at %s (version %q, there), which started later: %s",
					older.instance.Address, older.instance.Version, newer.instance.Address, newer.instance.Version, strings.Join(texts, "; ")),
				"build all from compatible .proto files; a deploy ends this by itself if no caller needs what is gone")
			return // one finding for each API
		}
	}
}

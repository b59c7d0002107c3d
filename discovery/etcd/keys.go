package etcd

import (
	"cmp"
	"strings"

	"github.com/onecall-dev/onecall/discovery"
)

// The parts of the namespace. Every prefix ends in a slash, so that the keys of "user" and
// "user-admin" are separate.
const (
	apisPart    = "/apis/"
	schemasPart = "/schemas/"
	knownPart   = "/known/"
)

// keyspace names the keys of a namespace:
//
//	<namespace>/apis/<api>/<incarnation>      an instance, under a lease
//	<namespace>/schemas/<api>/<incarnation>   its API's descriptors, under the same lease
//	<namespace>/known/<api>                   stays forever once the API was served
//
// If an instance has no incarnation, its key ends in its address.
type keyspace string

func (k keyspace) instances(api string) string { return string(k) + apisPart + api + "/" }

func (k keyspace) instance(instance discovery.Instance) string {
	return k.instances(instance.API) + lastPart(instance)
}

func (k keyspace) schema(instance discovery.Instance) string {
	return string(k) + schemasPart + instance.API + "/" + lastPart(instance)
}

func lastPart(instance discovery.Instance) string {
	return cmp.Or(instance.Incarnation.String(), instance.Address)
}

func (k keyspace) known(api string) string { return k.allKnown() + api }

func (k keyspace) allKnown() string { return string(k) + knownPart }

// knownAPI returns the API that a key of allKnown names.
func (k keyspace) knownAPI(key string) string { return strings.TrimPrefix(key, k.allKnown()) }

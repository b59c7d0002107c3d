package etcd

import "strings"

// The parts of the namespace. Every prefix ends in a slash, so that an API's
// entries are never mixed with those of one whose name begins alike.
const (
	apisPart  = "/apis/"
	knownPart = "/known/"
)

// keyspace names the keys of a namespace:
//
//	<namespace>/apis/<api>/<incarnation>   an instance, under a lease
//	<namespace>/known/<api>                stands for ever once anybody served the API
type keyspace string

func (k keyspace) instances(api string) string { return string(k) + apisPart + api + "/" }

func (k keyspace) instance(api, incarnation string) string { return k.instances(api) + incarnation }

func (k keyspace) known(api string) string { return k.allKnown() + api }

func (k keyspace) allKnown() string { return string(k) + knownPart }

// knownAPI gives the API that a key of allKnown names.
func (k keyspace) knownAPI(key string) string { return strings.TrimPrefix(key, k.allKnown()) }

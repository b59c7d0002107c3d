package etcd

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/quote"
)

// maxValueBytes is the longest value that is read. An instance of this package has a
// hundredth of it.
const maxValueBytes = 64 << 10

// value is the value of an instance's key. It has the naming format of etcd's own gRPC
// resolver (go.etcd.io/etcd/client/v3/naming/endpoints), so that each side finds the
// other's instances. Our fields are inside Metadata.
type value struct {
	Op       int             `json:"Op"` // 0: an endpoint
	Addr     string          `json:"Addr"`
	Metadata json.RawMessage `json:"Metadata,omitempty"`
}

// metadata are our fields.
type metadata struct {
	Incarnation string          `json:"incarnation,omitempty"`
	Service     string          `json:"service,omitempty"`
	State       discovery.State `json:"state,omitempty"`
	Version     string          `json:"version,omitempty"`
	Zone        string          `json:"zone,omitempty"`
	Schema      string          `json:"schema,omitempty"`
	Started     *time.Time      `json:"started,omitempty"`
	Socket      *socket         `json:"socket,omitempty"`
}

// socket is a [discovery.Socket]. One that cannot be read is none: the instance is still
// reached at its address.
type socket struct{ discovery.Socket }

// socketFields are the fields of a socket.
type socketFields struct {
	Host string `json:"host"`
	Path string `json:"path"`
	File string `json:"file"`
}

// MarshalJSON implements [json.Marshaler].
func (s socket) MarshalJSON() ([]byte, error) { return json.Marshal(socketFields(s.Socket)) }

// UnmarshalJSON implements [json.Unmarshaler]. It never fails.
func (s *socket) UnmarshalJSON(data []byte) error {
	var read socketFields
	if json.Unmarshal(data, &read) == nil && discovery.Socket(read).Valid() {
		s.Socket = discovery.Socket(read)
	}
	return nil
}

// encodeInstance returns the value of an instance's key.
func encodeInstance(instance discovery.Instance) ([]byte, error) {
	meta := metadata{
		Incarnation: instance.Incarnation.String(),
		Service:     instance.Service,
		State:       cmp.Or(instance.State, discovery.Serving),
		Version:     instance.Version,
		Zone:        instance.Zone,
		Schema:      instance.Schema,
	}
	if !instance.Started.IsZero() {
		started := instance.Started.UTC().Truncate(time.Millisecond)
		meta.Started = &started
	}
	if instance.Socket != (discovery.Socket{}) {
		meta.Socket = &socket{instance.Socket}
	}
	encoded, err := json.Marshal(meta)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(value{Addr: instance.Address, Metadata: encoded})
	if err == nil && len(data) > maxValueBytes {
		err = fmt.Errorf("its value would have %d bytes, readers take %d: shorten Version or Zone", len(data), maxValueBytes)
	}
	return data, err
}

// decodeInstance decodes the value of a key of an API. If there is no error, the instance
// is valid.
func decodeInstance(api string, data []byte) (discovery.Instance, error) {
	if len(data) > maxValueBytes {
		return discovery.Instance{}, fmt.Errorf("%d bytes are more than %d", len(data), maxValueBytes)
	}
	var read value
	if err := json.Unmarshal(data, &read); err != nil {
		return discovery.Instance{}, fmt.Errorf("not etcd's naming format: %s", quote.Line(err.Error(), quote.TextLimit))
	}
	if read.Op != 0 {
		return discovery.Instance{}, fmt.Errorf("field Op is %d, not an endpoint's 0", read.Op)
	}
	instance := discovery.Instance{API: api, Address: read.Addr, State: discovery.Serving}
	if err := decodeMetadata(&instance, read.Metadata); err != nil {
		return discovery.Instance{}, err
	}
	err := instance.Validate()
	if fault, ok := errors.AsType[*discovery.InstanceError](err); ok && instance.Incarnation.IsZero() && fault.Field != "Address" {
		// Another program's: only its address has to be valid.
		instance = discovery.Instance{API: api, Address: read.Addr, State: instance.State}
		err = instance.Validate()
	}
	return instance, err
}

// decodeMetadata sets our fields. Metadata without an incarnation is another program's
// and may be any JSON: fields that do not fit are skipped.
func decodeMetadata(instance *discovery.Instance, data json.RawMessage) error {
	var ours struct {
		Incarnation json.RawMessage `json:"incarnation"`
	}
	foreign := json.Unmarshal(data, &ours) != nil || ours.Incarnation == nil
	var meta metadata
	if err := json.Unmarshal(data, &meta); err != nil {
		if foreign {
			return nil
		}
		return fmt.Errorf("field Metadata: %s", quote.Line(err.Error(), quote.TextLimit))
	}
	if meta.Incarnation != "" {
		incarnation, err := discovery.ParseIncarnation(meta.Incarnation)
		if err != nil {
			return err
		}
		instance.Incarnation = incarnation
	}
	if foreign && meta.State != discovery.Draining {
		meta.State = discovery.Serving // another program's state has a meaning of its own
	}
	instance.Service = meta.Service
	instance.State = cmp.Or(meta.State, discovery.Serving)
	instance.Version = meta.Version
	instance.Zone = meta.Zone
	instance.Schema = meta.Schema
	if meta.Socket != nil {
		instance.Socket = meta.Socket.Socket
	}
	if meta.Started != nil {
		started := meta.Started.UTC().Truncate(time.Millisecond)
		if year := started.Year(); year >= 0 && year <= 9999 { // JSON has no other years
			instance.Started = started
		}
	}
	return nil
}

// knownValue is the value of the key that marks an API as known.
type knownValue struct {
	// Seen is when an instance last registered or began to drain.
	Seen time.Time `json:"seen"`
}

func encodeKnown(seen time.Time) string {
	data, err := json.Marshal(knownValue{Seen: seen.UTC().Truncate(time.Second)})
	if err != nil {
		return "{}" // JSON has no such year
	}
	return string(data)
}

// decodeKnown returns when an API was last seen, zero if the value cannot be decoded.
func decodeKnown(data []byte) time.Time {
	var read knownValue
	if json.Unmarshal(data, &read) != nil {
		return time.Time{}
	}
	return read.Seen
}

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

// maxValueBytes is the longest value that is read; what callers need of an
// instance fits in a hundredth of it.
const maxValueBytes = 64 << 10

// value is the value of an instance's key. It is the naming format of etcd's
// own gRPC resolver (go.etcd.io/etcd/client/v3/naming/endpoints), so that each
// finds what the other registers; our fields are inside Metadata.
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

// decodeInstance reads the value of a key of an API. What it returns without
// an error is valid.
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
		// Another program's, which may hold anything but another address.
		instance = discovery.Instance{API: api, Address: read.Addr, State: instance.State}
		err = instance.Validate()
	}
	return instance, err
}

// decodeMetadata fills in our fields. Metadata without an incarnation is
// another program's and may be any JSON: what does not fit is passed over.
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
		meta.State = discovery.Serving // a word of another program's
	}
	instance.Service = meta.Service
	instance.State = cmp.Or(meta.State, discovery.Serving)
	instance.Version = meta.Version
	instance.Zone = meta.Zone
	instance.Schema = meta.Schema
	if meta.Started != nil {
		started := meta.Started.UTC().Truncate(time.Millisecond)
		if year := started.Year(); year >= 0 && year <= 9999 { // else JSON can't hold it in UTC
			instance.Started = started
		}
	}
	return nil
}

// knownValue is the value of the key that marks an API as known.
type knownValue struct {
	// Seen is when an instance registered, or said that it is draining, last.
	Seen time.Time `json:"seen"`
}

func encodeKnown(seen time.Time) string {
	data, err := json.Marshal(knownValue{Seen: seen.UTC().Truncate(time.Second)})
	if err != nil {
		return "{}" // a year that JSON can't hold
	}
	return string(data)
}

// decodeKnown returns zero for what it can't read.
func decodeKnown(data []byte) time.Time {
	var read knownValue
	if json.Unmarshal(data, &read) != nil {
		return time.Time{}
	}
	return read.Seen
}

package schema

// Kind is a way in which a schema changes so that a program breaks which was built with the
// schema before.
type Kind string

// The kinds.
const (
	APIRemoved         Kind = "API removed"
	APIRenamed         Kind = "API renamed"
	ServiceRenamed     Kind = "service renamed"
	GoPackageChanged   Kind = "go_package changed"
	RPCRemoved         Kind = "RPC removed"
	RPCRenamed         Kind = "RPC renamed"
	StreamChanged      Kind = "stream changed"
	IdempotencyRemoved Kind = "idempotency removed"
	MessageRenamed     Kind = "message renamed"
	EnumRenamed        Kind = "enum renamed"
	FieldRemoved       Kind = "field removed"
	FieldRenamed       Kind = "field renamed"
	FieldRenumbered    Kind = "field renumbered"
	NumberReused       Kind = "number reused"
	TypeChanged        Kind = "type changed"
	CardinalityChanged Kind = "cardinality changed"
	PresenceChanged    Kind = "presence changed"
	OneofChanged       Kind = "oneof changed"
	RequiredRemoved    Kind = "required field removed"
	RequiredAdded      Kind = "required field added"
	ValueRemoved       Kind = "enum value removed"
	ValueRenamed       Kind = "enum value renamed"
	ValueRenumbered    Kind = "enum value renumbered"
)

// Effect says what a change breaks, and what to do instead.
type Effect struct {
	// Wire is true if programs that run misunderstand each other: one with the schema
	// before, and one with the schema after the change.
	Wire bool
	// Code is true if programs no longer compile with the generated code.
	Code bool
	// Names is true if calls by name, and JSON, no longer work.
	Names bool
	// Incompatible is true if [Compare] returns the change, so that a bus with
	// framework.StrictSchema does not call an instance with the other schema.
	Incompatible bool
	// Remedy says what to do instead.
	Remedy string
}

// Effect returns the effect of a change.
func (k Kind) Effect() Effect { return effects[k] }

// The remedies of several kinds.
const (
	newField = "keep the field, and add one with another name and number"
	newRPC   = "keep the RPC, and add another"
	newValue = "keep the value, and add another"
)

var effects = map[Kind]Effect{
	APIRemoved:         {Wire: true, Code: true, Names: true, Remedy: "serve the API until no caller uses it"},
	APIRenamed:         {Wire: true, Names: true, Remedy: "serve the API under both names, as two services, until no caller uses the old one"},
	ServiceRenamed:     {Wire: true, Code: true, Incompatible: true, Remedy: "serve the old service too, until no caller uses it"},
	GoPackageChanged:   {Code: true, Remedy: "keep go_package, or change the imports of all callers"},
	RPCRemoved:         {Wire: true, Code: true, Names: true, Incompatible: true, Remedy: "keep the RPC until no caller uses it"},
	RPCRenamed:         {Wire: true, Code: true, Names: true, Incompatible: true, Remedy: newRPC},
	StreamChanged:      {Wire: true, Code: true, Names: true, Incompatible: true, Remedy: newRPC},
	IdempotencyRemoved: {Wire: true, Incompatible: true, Remedy: "callers that run still retry it; " + newRPC},
	MessageRenamed:     {Code: true, Remedy: "keep the name"},
	EnumRenamed:        {Code: true, Remedy: "keep the name"},
	FieldRemoved:       {Code: true, Names: true, Remedy: "keep the field, with deprecated = true, until no caller uses it; then reserve its number and name"},
	FieldRenamed:       {Code: true, Names: true, Incompatible: true, Remedy: newField},
	FieldRenumbered:    {Wire: true, Incompatible: true, Remedy: "keep the number"},
	NumberReused:       {Wire: true, Code: true, Names: true, Incompatible: true, Remedy: "use a number that no field had, and reserve the old one"},
	TypeChanged:        {Wire: true, Code: true, Names: true, Incompatible: true, Remedy: newField},
	CardinalityChanged: {Wire: true, Code: true, Names: true, Incompatible: true, Remedy: newField},
	PresenceChanged:    {Wire: true, Code: true, Incompatible: true, Remedy: newField},
	OneofChanged:       {Wire: true, Code: true, Incompatible: true, Remedy: newField},
	RequiredRemoved:    {Wire: true, Code: true, Names: true, Incompatible: true, Remedy: "keep the field, or make it optional first, until no caller uses it"},
	RequiredAdded:      {Wire: true, Names: true, Incompatible: true, Remedy: "declare the field optional, and choose a default in the handler"},
	ValueRemoved:       {Wire: true, Code: true, Names: true, Incompatible: true, Remedy: "keep the value, with deprecated = true, until no caller uses it; then reserve its number and name"},
	ValueRenamed:       {Code: true, Names: true, Incompatible: true, Remedy: newValue},
	ValueRenumbered:    {Wire: true, Incompatible: true, Remedy: "keep the number"},
}

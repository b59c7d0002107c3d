package framework

import "github.com/onecall-dev/onecall/discovery"

// The errors that say why a bus does not call the instances of an API. Package discovery
// documents them.
type (
	// ServiceError says that instances of the API serve another proto service.
	ServiceError = discovery.ServiceError
	// SchemaError says that an instance has an incompatible schema.
	SchemaError = discovery.SchemaError
	// IdentityError says that option RequireIdentity forbids to call the instances.
	IdentityError = discovery.IdentityError
	// ConnectionError says that there is no connection to any instance.
	ConnectionError = discovery.ConnectionError
	// InstanceError says why there is no connection to one instance.
	InstanceError = discovery.UnconnectedError
)

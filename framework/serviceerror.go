package framework

import "fmt"

// ServiceError says that no instance of an API serves the called proto service, and that
// instances serve another.
type ServiceError struct {
	// API is the bus name.
	API string
	// Service is the full proto name of the called service.
	Service string
	// Other is the full proto name of the service at Address.
	Other, Address string
	// Served says that an instance of the called service was known before.
	Served bool
}

// Error implements error.
func (e *ServiceError) Error() string {
	if e.Served {
		return fmt.Sprintf("API %q has no instance of the service %s now, only of others, such as %.100q at %s: start one", e.API, e.Service, e.Other, e.Address)
	}
	return fmt.Sprintf("API %q is served by %.100q, such as at %s, and this call is to %s: build the caller from the .proto of the instances, "+
		"start an instance of the called service, or give one of the two services another API name", e.API, e.Other, e.Address, e.Service)
}

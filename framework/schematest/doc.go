// Package schematest tests that a caller and the services that it calls understand each
// other, without starting either. A file has the schemas of APIs in the form in which
// services publish them in a registry.
//
// A caller is tested against the services that run in production: [Dump] writes their
// schemas to a file, and [Fits] compares the file with the code that is linked into the
// test.
//
//	schematest.Fits(t, "testdata/production.schema")
//
// A service is tested against its callers: each caller writes what it uses with [DumpCalls],
// and the service's test compares the file with the service's own schema by [FitsCaller].
//
//	schematest.FitsCaller(t, "testdata/shop.schema")
//
// What breaks is the same as for option framework.StrictSchema: an RPC that is gone or has
// another shape; a field whose name, number, type, cardinality, presence or oneof changed; a
// required field that is gone, or new in a request; a value of an enum that is gone or has
// another number. Another bus name of the API breaks too.
package schematest

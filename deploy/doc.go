// Package deploy tests the files of this folder: the manifest for Kubernetes, the unit for
// systemd and the Dockerfile. It runs the example service as they say.
package deploy

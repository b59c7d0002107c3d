// Package browsertest has the tests of the status page in a browser: Chromium, without a
// window. make browser runs them. It is a module of its own, so that nothing else depends
// on what drives the browser.
package browsertest

// Package testserver starts the servers that tests run against: real ones, each a process of
// its own on the loopback interface, with nothing in it, that ends with its test.
//
// A server that is not installed skips the test, except in CI (the environment variable CI is
// not empty), where the test fails.
package testserver

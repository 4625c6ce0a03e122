package main

import (
	"flag"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts, and the local store for its S3 server, run this test binary as
// the program itself: under the name filestore it is one. Every run is searched for secrets, too.
func TestMain(m *testing.M) {
	flag.Bool(updateFlag, false, "write the actual output into the scripts' files")
	testscript.Main(m, map[string]func(){
		"filestore": func() { os.Exit(runWatched(os.Args[1:])) },
	})
}

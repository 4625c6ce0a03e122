// Command nulldynamo serves a stand-in for DynamoDB that answers at once (package nullserver). It
// listens on the loopback interface only.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/designfultech/filestore/internal/nullserver"
)

func main() {
	d := &nullserver.DynamoDB{}
	listen := flag.String("listen", "127.0.0.1:7091", "`address`")
	flag.DurationVar(&d.Latency, "latency", 0, "how late every answer is")
	flag.Int64Var(&d.BigSize, "big-size", 1<<30, "size of an unknown id that contains \"big\", in bytes")
	flag.Int64Var(&d.SmallSize, "small-size", 4096, "size of any other unknown id, in bytes")
	flag.Parse()
	if err := run(d, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "nulldynamo:", err)
		os.Exit(1)
	}
}

func run(d *nullserver.DynamoDB, listen string) error {
	if !strings.HasPrefix(listen, "127.") {
		return fmt.Errorf("%q is not an address of the loopback interface", listen)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	return d.Serve(l)
}

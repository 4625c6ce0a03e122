// Command nulls3 serves a stand-in for S3 that keeps nothing (package nullserver). It can answer late,
// limit what one connection moves, and speak TLS with a certificate that it makes for itself. It
// listens on the loopback interface only.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/designfultech/filestore/internal/nullserver"
)

type options struct {
	listen  string
	tls     string
	file    string
	small   int64
	listed  int
	latency time.Duration
	rate    float64
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:7090", "`address`")
	flag.StringVar(&o.tls, "tls", "", "speak TLS, and write the certificate to this `file`")
	flag.StringVar(&o.file, "file", "", "the `file` whose bytes are those of every key that contains \"big\"")
	flag.Int64Var(&o.small, "small-size", 4096, "size of every other object, in bytes")
	flag.IntVar(&o.listed, "listed", 2000, "how many keys a prefix with \"shared/\" in it seems to have")
	flag.DurationVar(&o.latency, "latency", 0, "how late every answer is")
	flag.Float64Var(&o.rate, "connrate", 0, "MiB/s that one request body or answer moves at most; 0: no limit")
	flag.Parse()
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "nulls3:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	if !strings.HasPrefix(o.listen, "127.") {
		return fmt.Errorf("%q is not an address of the loopback interface", o.listen)
	}
	f, err := os.Open(o.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	s, err := nullserver.NewS3(f, o.small)
	if err != nil {
		return err
	}
	s.Latency, s.Listed, s.Rate = o.latency, o.listed, o.rate*(1<<20)
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	if o.tls != "" {
		host, _, err := net.SplitHostPort(o.listen)
		if err != nil {
			return err
		}
		config, err := selfSigned(net.ParseIP(host), o.tls)
		if err != nil {
			return err
		}
		l = tls.NewListener(l, config)
	}
	return (&http.Server{Handler: s, ReadHeaderTimeout: time.Minute}).Serve(l)
}

// selfSigned makes a certificate for ip, and writes it to path for the clients that are to trust it.
func selfSigned(ip net.IP, path string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "filestore bench"},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IPAddresses: []net.IP{ip}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}

package transfer

import (
	"bytes"
	"testing"
)

// Every byte that is sent is hashed once before.
func BenchmarkChecksumOfPart(b *testing.B) {
	for _, c := range crcs() {
		b.Run(c.name, func(b *testing.B) {
			e, data := &Engine{}, make([]byte, DefaultPartSize)
			r := bytes.NewReader(data)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.checksum(c, r, int64(len(data))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Package mimetype chooses the MIME type of a file that is uploaded, from its name or else from
// its first bytes. The table of extensions is the package's own: that of the standard library's
// package mime is completed from files of the machine it runs on, so that one file would get
// another type on another machine.
package mimetype

import (
	"net/http"
	"path"
	"strings"
)

// Unknown is the type of a file of which nothing is known (RFC 2046, section 4.5.1, and
// docs/contract.md, "The record").
const Unknown = "application/octet-stream"

// sniffed is how many bytes the sniffing of types looks at.
const sniffed = 512

// Of returns the MIME type of the file name whose content starts with head: the one of its name
// by [ByName], else the one of its content by [Sniff]. It is never empty and has no parameters.
func Of(name string, head []byte) string {
	if mimeType, ok := ByName(name); ok {
		return mimeType
	}
	return Sniff(head)
}

// Sniff returns the MIME type, without parameters, of content that starts with head, as the
// WHATWG's standard "MIME Sniffing" finds it in the first 512 bytes; fewer will do, and more are
// not looked at. Text is text/plain. Content that is empty, or that nothing is known of, is
// [Unknown].
//
// In addition to the standard it knows video/mp2t, for which [ByName] defers to it.
func Sniff(head []byte) string {
	if len(head) == 0 {
		return Unknown // the standard calls it text
	}
	head = head[:min(len(head), sniffed)]
	mimeType, _, _ := strings.Cut(http.DetectContentType(head), ";")
	if mimeType == Unknown && isTransportStream(head) {
		return "video/mp2t"
	}
	return mimeType
}

// isTransportStream reports whether head is the start of an MPEG transport stream: packets of
// 188 bytes, each of which starts with the same byte (ISO/IEC 13818-1, section 2.4.3.2).
func isTransportStream(head []byte) bool {
	const packet, sync = 188, 'G'
	return len(head) > 2*packet && head[0] == sync && head[packet] == sync && head[2*packet] == sync
}

// ByName returns the MIME type, in lower case and without parameters, that goes with the last
// extension of name, in whatever case; false where the table has none. What comes before the
// extension doesn't matter: a .tar.gz is application/gzip.
//
// The types are those of the IANA's registry "Media Types". Where it has none for a format, or
// one that hardly any program knows, the type is the one in common use, mostly with x-. Two
// kinds of extension are left out on purpose, for the content tells more than they do: those in
// use for different things, such as .ts and .mts (MPEG transport stream or TypeScript), .key
// (Keynote or a private key), .dot (Word or Graphviz) and .asc (a signature or keys), and those
// that say no more than "some text" or "some bytes".
func ByName(name string) (string, bool) {
	mimeType := byExtension(strings.ToLower(path.Ext(name)))
	return mimeType, mimeType != ""
}

// byExtension returns the MIME type for ext, which is in lower case and starts with a dot; ""
// where there is none. A switch, and no map, since the compiler turns it into a binary search
// and nothing has to be built when the program starts.
func byExtension(ext string) string {
	switch ext {
	// Text.
	case ".txt", ".text", ".log":
		return "text/plain"
	case ".md", ".markdown":
		return "text/markdown"
	case ".csv":
		return "text/csv"
	case ".tsv":
		return "text/tab-separated-values"
	case ".html", ".htm":
		return "text/html"
	case ".xhtml":
		return "application/xhtml+xml"
	case ".css":
		return "text/css"
	case ".vtt":
		return "text/vtt"
	case ".srt":
		return "application/x-subrip"
	case ".ttml":
		return "application/ttml+xml"
	case ".ics":
		return "text/calendar"
	case ".vcf", ".vcard":
		return "text/vcard"
	case ".eml":
		return "message/rfc822"
	case ".mbox":
		return "application/mbox"
	case ".diff", ".patch":
		return "text/x-patch"
	case ".tex":
		return "text/x-tex"
	case ".bib":
		return "text/x-bibtex"

	// Code.
	case ".js", ".mjs":
		return "text/javascript" // RFC 9239
	case ".cjs":
		return "application/node"
	case ".wasm":
		return "application/wasm"
	case ".c":
		return "text/x-csrc"
	case ".h":
		return "text/x-chdr"
	case ".cc", ".cpp", ".cxx":
		return "text/x-c++src"
	case ".hh", ".hpp", ".hxx":
		return "text/x-c++hdr"
	case ".cs":
		return "text/x-csharp"
	case ".go":
		return "text/x-go"
	case ".java":
		return "text/x-java"
	case ".kt":
		return "text/x-kotlin"
	case ".lua":
		return "text/x-lua"
	case ".php":
		return "application/x-php"
	case ".py":
		return "text/x-python"
	case ".rb":
		return "application/x-ruby"
	case ".rs":
		return "text/rust"
	case ".sh":
		return "application/x-shellscript"
	case ".sql":
		return "application/sql"
	case ".swift":
		return "text/x-swift"
	case ".class":
		return "application/java-vm"
	case ".exe", ".dll":
		return "application/vnd.microsoft.portable-executable"

	// Data.
	case ".json":
		return "application/json"
	case ".jsonl", ".ndjson":
		return "application/x-ndjson"
	case ".json5":
		return "application/json5"
	case ".jsonld":
		return "application/ld+json"
	case ".geojson":
		return "application/geo+json"
	case ".sarif":
		return "application/sarif+json"
	case ".ipynb":
		return "application/x-ipynb+json"
	case ".webmanifest":
		return "application/manifest+json"
	case ".yaml", ".yml":
		return "application/yaml" // RFC 9512
	case ".toml":
		return "application/toml"
	case ".xml", ".xsd":
		return "application/xml"
	case ".xsl", ".xslt":
		return "application/xslt+xml"
	case ".dtd":
		return "application/xml-dtd"
	case ".atom":
		return "application/atom+xml"
	case ".rss":
		return "application/rss+xml"
	case ".xlf", ".xliff":
		return "application/xliff+xml"
	case ".musicxml":
		return "application/vnd.recordare.musicxml+xml"
	case ".rdf":
		return "application/rdf+xml"
	case ".ttl":
		return "text/turtle"
	case ".nt":
		return "application/n-triples"
	case ".nq":
		return "application/n-quads"
	case ".trig":
		return "application/trig"
	case ".rq":
		return "application/sparql-query"
	case ".cbor":
		return "application/cbor"
	case ".msgpack":
		return "application/vnd.msgpack"
	case ".parquet":
		return "application/vnd.apache.parquet"
	case ".arrow":
		return "application/vnd.apache.arrow.file"
	case ".arrows":
		return "application/vnd.apache.arrow.stream"
	case ".sqlite", ".sqlite3":
		return "application/vnd.sqlite3"
	case ".h5", ".hdf5":
		return "application/x-hdf5"
	case ".fits":
		return "application/fits"
	case ".dcm":
		return "application/dicom"
	case ".gpkg":
		return "application/geopackage+sqlite3"
	case ".gml":
		return "application/gml+xml"
	case ".gpx":
		return "application/gpx+xml"
	case ".kml":
		return "application/vnd.google-earth.kml+xml"
	case ".kmz":
		return "application/vnd.google-earth.kmz"
	case ".shp":
		return "application/vnd.shp"
	case ".shx":
		return "application/vnd.shx"
	case ".dbf":
		return "application/vnd.dbf"
	case ".pcap":
		return "application/vnd.tcpdump.pcap"
	case ".torrent":
		return "application/x-bittorrent"

	// Documents.
	case ".pdf":
		return "application/pdf"
	case ".ps", ".eps":
		return "application/postscript"
	case ".rtf":
		return "application/rtf"
	case ".epub":
		return "application/epub+zip"
	case ".mobi":
		return "application/x-mobipocket-ebook"
	case ".azw":
		return "application/vnd.amazon.ebook"
	case ".azw3":
		return "application/vnd.amazon.mobi8-ebook"
	case ".djvu", ".djv":
		return "image/vnd.djvu"
	case ".xps":
		return "application/vnd.ms-xpsdocument"
	case ".oxps":
		return "application/oxps"

	// Office.
	case ".doc":
		return "application/msword"
	case ".docx":
		return "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	case ".docm":
		return "application/vnd.ms-word.document.macroenabled.12"
	case ".dotx":
		return "application/vnd.openxmlformats-officedocument.wordprocessingml.template"
	case ".dotm":
		return "application/vnd.ms-word.template.macroenabled.12"
	case ".xls", ".xlt":
		return "application/vnd.ms-excel"
	case ".xlsx":
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	case ".xlsm":
		return "application/vnd.ms-excel.sheet.macroenabled.12"
	case ".xlsb":
		return "application/vnd.ms-excel.sheet.binary.macroenabled.12"
	case ".xltx":
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.template"
	case ".xltm":
		return "application/vnd.ms-excel.template.macroenabled.12"
	case ".ppt", ".pps":
		return "application/vnd.ms-powerpoint"
	case ".pptx":
		return "application/vnd.openxmlformats-officedocument.presentationml.presentation"
	case ".pptm":
		return "application/vnd.ms-powerpoint.presentation.macroenabled.12"
	case ".ppsx":
		return "application/vnd.openxmlformats-officedocument.presentationml.slideshow"
	case ".potx":
		return "application/vnd.openxmlformats-officedocument.presentationml.template"
	case ".odt":
		return "application/vnd.oasis.opendocument.text"
	case ".ott":
		return "application/vnd.oasis.opendocument.text-template"
	case ".ods":
		return "application/vnd.oasis.opendocument.spreadsheet"
	case ".ots":
		return "application/vnd.oasis.opendocument.spreadsheet-template"
	case ".odp":
		return "application/vnd.oasis.opendocument.presentation"
	case ".otp":
		return "application/vnd.oasis.opendocument.presentation-template"
	case ".odg":
		return "application/vnd.oasis.opendocument.graphics"
	case ".odf":
		return "application/vnd.oasis.opendocument.formula"
	case ".odb":
		return "application/vnd.oasis.opendocument.base"
	case ".pages":
		return "application/vnd.apple.pages"
	case ".numbers":
		return "application/vnd.apple.numbers"
	case ".vsd", ".vsdx":
		return "application/vnd.visio"
	case ".mpp":
		return "application/vnd.ms-project"
	case ".mdb", ".accdb":
		return "application/x-msaccess"
	case ".msg":
		return "application/vnd.ms-outlook"

	// Images.
	case ".png":
		return "image/png"
	case ".apng":
		return "image/apng"
	case ".jpg", ".jpeg", ".jpe", ".jfif":
		return "image/jpeg"
	case ".gif":
		return "image/gif"
	case ".webp":
		return "image/webp"
	case ".avif":
		return "image/avif"
	case ".heic":
		return "image/heic"
	case ".heif":
		return "image/heif"
	case ".jxl":
		return "image/jxl"
	case ".jp2":
		return "image/jp2"
	case ".svg":
		return "image/svg+xml"
	case ".bmp":
		return "image/bmp"
	case ".tif", ".tiff":
		return "image/tiff"
	case ".ico", ".cur":
		return "image/vnd.microsoft.icon"
	case ".psd":
		return "image/vnd.adobe.photoshop"
	case ".xcf":
		return "image/x-xcf"
	case ".tga":
		return "image/x-tga"
	case ".pbm":
		return "image/x-portable-bitmap"
	case ".pgm":
		return "image/x-portable-graymap"
	case ".ppm":
		return "image/x-portable-pixmap"
	case ".exr":
		return "image/x-exr"
	case ".ktx":
		return "image/ktx"
	case ".ktx2":
		return "image/ktx2"
	case ".emf":
		return "image/emf"
	case ".wmf":
		return "image/wmf"
	case ".dng":
		return "image/x-adobe-dng"
	case ".cr2":
		return "image/x-canon-cr2"
	case ".nef":
		return "image/x-nikon-nef"
	case ".arw":
		return "image/x-sony-arw"
	case ".dwg":
		return "image/vnd.dwg"
	case ".dxf":
		return "image/vnd.dxf"

	// Models.
	case ".stl":
		return "model/stl"
	case ".obj":
		return "model/obj"
	case ".mtl":
		return "model/mtl"
	case ".gltf":
		return "model/gltf+json"
	case ".glb":
		return "model/gltf-binary"
	case ".usdz":
		return "model/vnd.usdz+zip"
	case ".3mf":
		return "model/3mf"
	case ".dae":
		return "model/vnd.collada+xml"
	case ".step", ".stp":
		return "model/step"
	case ".iges", ".igs":
		return "model/iges"

	// Audio.
	case ".mp3":
		return "audio/mpeg"
	case ".m4a":
		return "audio/mp4"
	case ".aac":
		return "audio/aac"
	case ".ac3":
		return "audio/ac3"
	case ".ogg", ".oga", ".opus":
		return "audio/ogg" // RFC 5334 and, for .opus, RFC 7845
	case ".flac":
		return "audio/flac"
	case ".wav":
		return "audio/wav"
	case ".aif", ".aiff":
		return "audio/aiff"
	case ".caf":
		return "audio/x-caf"
	case ".au":
		return "audio/basic"
	case ".mka":
		return "audio/matroska"
	case ".weba":
		return "audio/webm"
	case ".wma":
		return "audio/x-ms-wma"
	case ".amr":
		return "audio/amr"
	case ".mid", ".midi":
		return "audio/midi"
	case ".m3u":
		return "audio/x-mpegurl"

	// Video.
	case ".mp4", ".m4v":
		return "video/mp4"
	case ".m4s":
		return "video/iso.segment"
	case ".mpg", ".mpeg":
		return "video/mpeg"
	case ".m2t", ".m2ts":
		return "video/mp2t"
	case ".webm":
		return "video/webm"
	case ".ogv":
		return "video/ogg"
	case ".mov", ".qt":
		return "video/quicktime"
	case ".mkv":
		return "video/matroska"
	case ".mk3d":
		return "video/matroska-3d"
	case ".avi":
		return "video/x-msvideo"
	case ".wmv":
		return "video/x-ms-wmv"
	case ".asf":
		return "application/vnd.ms-asf"
	case ".flv":
		return "video/x-flv"
	case ".3gp":
		return "video/3gpp"
	case ".3g2":
		return "video/3gpp2"
	case ".mj2":
		return "video/mj2"
	case ".mxf":
		return "application/mxf"
	case ".ogx":
		return "application/ogg"
	case ".m3u8":
		return "application/vnd.apple.mpegurl"
	case ".mpd":
		return "application/dash+xml"

	// Fonts (RFC 8081).
	case ".ttf":
		return "font/ttf"
	case ".otf":
		return "font/otf"
	case ".ttc":
		return "font/collection"
	case ".woff":
		return "font/woff"
	case ".woff2":
		return "font/woff2"
	case ".eot":
		return "application/vnd.ms-fontobject"

	// Archives and compressed files.
	case ".zip":
		return "application/zip"
	case ".gz", ".tgz":
		return "application/gzip"
	case ".bz2", ".tbz", ".tbz2":
		return "application/x-bzip2"
	case ".xz", ".txz":
		return "application/x-xz"
	case ".zst", ".tzst":
		return "application/zstd"
	case ".lz4":
		return "application/x-lz4"
	case ".lzma":
		return "application/x-lzma"
	case ".z":
		return "application/x-compress"
	case ".tar":
		return "application/x-tar"
	case ".cpio":
		return "application/x-cpio"
	case ".7z":
		return "application/x-7z-compressed"
	case ".rar":
		return "application/vnd.rar"
	case ".cab":
		return "application/vnd.ms-cab-compressed"
	case ".iso":
		return "application/x-iso9660-image"
	case ".dmg":
		return "application/x-apple-diskimage"

	// Packages.
	case ".deb":
		return "application/vnd.debian.binary-package"
	case ".rpm":
		return "application/x-rpm"
	case ".apk":
		return "application/vnd.android.package-archive"
	case ".jar", ".war", ".ear":
		return "application/java-archive"
	case ".msi":
		return "application/x-msi"
	case ".crx":
		return "application/x-chrome-extension"
	case ".xpi":
		return "application/x-xpinstall"

	// Certificates and signatures.
	case ".cer":
		return "application/pkix-cert"
	case ".crt":
		return "application/x-x509-ca-cert"
	case ".crl":
		return "application/pkix-crl"
	case ".csr", ".p10":
		return "application/pkcs10"
	case ".p8":
		return "application/pkcs8"
	case ".p12", ".pfx":
		return "application/pkcs12"
	case ".p7b":
		return "application/x-pkcs7-certificates"
	case ".p7c", ".p7m":
		return "application/pkcs7-mime"
	case ".p7s":
		return "application/pkcs7-signature"
	case ".pem":
		return "application/x-pem-file"
	case ".gpg", ".pgp":
		return "application/pgp-encrypted"
	}
	return ""
}

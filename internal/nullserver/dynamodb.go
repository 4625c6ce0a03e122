package nullserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// item is a record: attributes as they came, such as {"S":"text"}.
type item map[string]json.RawMessage

// id returns the attribute of that name, "" where it is no text.
func (i item) id() string {
	var v struct{ S string }
	if json.Unmarshal(i["id"], &v) != nil {
		return ""
	}
	return v.S
}

// appendTo writes the item as JSON. The attributes are JSON already: no need to look at them again.
func (i item) appendTo(b []byte) []byte {
	b = append(b, '{')
	for name, value := range i {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, name), ':')
		b = append(b, value...)
	}
	return append(b, '}')
}

// DynamoDB answers at once what the records of files ask for. It checks no signature and no condition,
// and all tables are one. It remembers items; an id that was never written seems to be a stored
// file nevertheless, of the size that [S3] answers. The zero value is ready for use.
//
// It may share its cores with the client that is measured, so it serves with fasthttp and writes JSON
// by hand: with net/http and encoding/json alone a call took 1.7 times as much CPU.
type DynamoDB struct {
	Latency            time.Duration // every answer is so late
	BigSize, SmallSize int64         // of files that were never written, with "big" in the id and without; bytes

	mu          sync.Mutex
	items       map[string]item
	expressions map[string][]assignment
	statements  map[string]partiQL
}

// request has the fields of all the calls that are answered.
type request struct {
	Item                      item
	Key                       item
	TableName                 string
	UpdateExpression          string
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues item
	RequestItems              json.RawMessage
	Statements                []struct {
		Statement  string
		Parameters []json.RawMessage
	}
}

// Serve answers the connections of l until l is closed.
func (d *DynamoDB) Serve(l net.Listener) error {
	return (&fasthttp.Server{Handler: d.handle, NoDefaultServerHeader: true, NoDefaultDate: true}).Serve(l)
}

func (d *DynamoDB) handle(ctx *fasthttp.RequestCtx) {
	var in request
	var out []byte
	err := json.Unmarshal(ctx.PostBody(), &in)
	if err == nil {
		_, call, _ := strings.Cut(string(ctx.Request.Header.Peek("X-Amz-Target")), ".")
		out, err = d.call(call, &in)
	}
	if d.Latency > 0 {
		time.Sleep(d.Latency)
	}
	if err != nil {
		ctx.SetStatusCode(http.StatusBadRequest)
		out = fmt.Appendf(nil, `{"__type":"com.amazon.coral.validate#ValidationException","message":%q}`, err)
	}
	ctx.SetContentType("application/x-amz-json-1.0")
	ctx.Response.Header.Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(out)), 10))
	ctx.SetBody(out)
}

func (d *DynamoDB) call(name string, in *request) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch name {
	case "PutItem":
		d.put(in.Item)
		return []byte(`{}`), nil
	case "UpdateItem":
		return append(d.update(in).appendTo([]byte(`{"Attributes":`)), '}'), nil
	case "GetItem":
		return append(d.get(in.Key.id()).appendTo([]byte(`{"Item":`)), '}'), nil
	case "DeleteItem":
		delete(d.items, in.Key.id())
		return []byte(`{}`), nil
	case "BatchGetItem":
		return d.batchGet(in.RequestItems)
	case "BatchWriteItem":
		return d.batchWrite(in.RequestItems)
	case "BatchExecuteStatement":
		return d.batchExecute(in)
	case "Query":
		return nil, errors.New("The table does not have the specified index") //nolint:staticcheck // as DynamoDB says it
	case "Scan":
		return []byte(`{"Items":[],"Count":0,"ScannedCount":0}`), nil
	case "DescribeTable":
		return fmt.Appendf(nil, `{"Table":{"TableName":%q,"TableStatus":"ACTIVE",`+
			`"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],`+
			`"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]}}`, in.TableName), nil
	}
	return nil, fmt.Errorf("no call %q here", name)
}

func (d *DynamoDB) put(i item) { d.set(i.id(), i) }

func (d *DynamoDB) set(id string, i item) {
	if d.items == nil {
		d.items = map[string]item{}
	}
	d.items[id] = i
}

// assignment is one of an update: "name = :value" or "name = if_not_exists(name, :value)".
type assignment struct {
	name, value string
	onlyNew     bool
}

var assignmentSyntax = regexp.MustCompile(`([#\w]+) = (?:(if_not_exists)\([#\w]+, )?(:\w+)`)

// parse returns the assignments of an update expression. There are few different ones.
func (d *DynamoDB) parse(expression string) []assignment {
	if known, ok := d.expressions[expression]; ok {
		return known
	}
	var out []assignment
	for _, m := range assignmentSyntax.FindAllStringSubmatch(expression, -1) {
		out = append(out, assignment{name: m[1], value: m[3], onlyNew: m[2] != ""})
	}
	if d.expressions == nil {
		d.expressions = map[string][]assignment{}
	}
	d.expressions[expression] = out
	return out
}

// update carries out the assignments of SET and returns the item. What the tool removes beside them, the mark of
// a pending file, nobody asks for.
func (d *DynamoDB) update(in *request) item {
	id := in.Key.id()
	current := d.get(id)
	for _, set := range d.parse(in.UpdateExpression) {
		name := set.name
		if full, ok := in.ExpressionAttributeNames[name]; ok {
			name = full
		}
		if _, there := current[name]; !there || !set.onlyNew {
			current[name] = in.ExpressionAttributeValues[set.value]
		}
	}
	d.set(id, current)
	return current
}

// partiQL is what a statement sets: the names of its parameters, in their order. That of an UPDATE's
// key comes last; further ones belong to its condition.
type partiQL struct {
	insert bool
	names  []string
}

var (
	insertedName = regexp.MustCompile(`'(\w+)': \?`)
	updatedName  = regexp.MustCompile(`SET "(\w+)"=\?`)
)

// parsePartiQL knows the statements that the tool sends. There are few different ones.
func (d *DynamoDB) parsePartiQL(text string) partiQL {
	if known, ok := d.statements[text]; ok {
		return known
	}
	out := partiQL{insert: strings.HasPrefix(text, "INSERT ")}
	syntax := updatedName
	if out.insert {
		syntax = insertedName
	}
	for _, m := range syntax.FindAllStringSubmatch(text, -1) {
		out.names = append(out.names, m[1])
	}
	if !out.insert {
		out.names = append(out.names, "id")
	}
	if d.statements == nil {
		d.statements = map[string]partiQL{}
	}
	d.statements[text] = out
	return out
}

// batchExecute carries out every statement, whatever its condition.
func (d *DynamoDB) batchExecute(in *request) ([]byte, error) {
	b := []byte(`{"Responses":[`)
	for n, s := range in.Statements {
		if n > 0 {
			b = append(b, ',')
		}
		parsed := d.parsePartiQL(s.Statement)
		if len(parsed.names) > len(s.Parameters) {
			return nil, fmt.Errorf("too few parameters for %q", s.Statement)
		}
		values := item{}
		for i, name := range parsed.names {
			values[name] = s.Parameters[i]
		}
		if parsed.insert {
			d.put(values)
			b = append(b, `{"TableName":"Files"}`...)
			continue
		}
		current := d.get(values.id())
		maps.Copy(current, values)
		d.put(current)
		b = append(current.appendTo(append(b, `{"TableName":"Files","Item":`...)), '}')
	}
	return append(b, `]}`...), nil
}

func (d *DynamoDB) get(id string) item {
	if i, ok := d.items[id]; ok {
		return i
	}
	return d.unknown(id)
}

// unknown makes up the record of an id that was never written.
func (d *DynamoDB) unknown(id string) item {
	size := d.SmallSize
	if strings.Contains(id, "big") {
		size = d.BigSize
	}
	day := json.RawMessage(`{"S":"2026-01-01T00:00:00"}`)
	return item{
		"id": fmt.Appendf(nil, `{"S":%q}`, id), "name": fmt.Appendf(nil, `{"S":%q}`, id+".bin"),
		"type": json.RawMessage(`{"S":"application/octet-stream"}`), "size": fmt.Appendf(nil, `{"N":"%d"}`, size),
		"created_at": day, "uploaded_at": day, "stored_at": day,
	}
}

func (d *DynamoDB) batchGet(items json.RawMessage) ([]byte, error) {
	var tables map[string]struct{ Keys []item }
	if err := json.Unmarshal(items, &tables); err != nil {
		return nil, err
	}
	b := []byte(`{"UnprocessedKeys":{},"Responses":{`)
	for name, asked := range tables { // one: there is only one table
		b = append(strconv.AppendQuote(b, name), `:[`...)
		for n, key := range asked.Keys {
			if n > 0 {
				b = append(b, ',')
			}
			b = d.get(key.id()).appendTo(b)
		}
		b = append(b, ']')
	}
	return append(b, `}}`...), nil
}

func (d *DynamoDB) batchWrite(items json.RawMessage) ([]byte, error) {
	var tables map[string][]struct {
		PutRequest *struct{ Item item }
	}
	if err := json.Unmarshal(items, &tables); err != nil {
		return nil, err
	}
	for _, requests := range tables {
		for _, r := range requests {
			if r.PutRequest != nil {
				d.put(r.PutRequest.Item)
			}
		}
	}
	return []byte(`{"UnprocessedItems":{}}`), nil
}

// Command nulldynamo is a stand-in for DynamoDB that answers at once, so that a benchmark
// measures what the records cost a client, and not a database. It checks no signature and no
// condition. It remembers what was written, but only as far as downloads need it: name, type and
// size. An id that was never written seems to be a stored file nevertheless, of a size that fits what
// nulls3 answers.
//
// It listens on the loopback interface only.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	t := &table{items: map[string]item{}}
	listen := flag.String("listen", "127.0.0.1:7091", "`address`")
	flag.DurationVar(&t.latency, "latency", 0, "how late every answer is")
	flag.Int64Var(&t.bigSize, "big-size", 1<<30, "size of an unknown id that contains \"big\", in bytes")
	flag.Int64Var(&t.smallSize, "small-size", 4096, "size of any other unknown id, in bytes")
	flag.Parse()
	if err := run(t, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "nulldynamo:", err)
		os.Exit(1)
	}
}

func run(t *table, listen string) error {
	if !strings.HasPrefix(listen, "127.") {
		return fmt.Errorf("%q is not an address of the loopback interface", listen)
	}
	return (&http.Server{Addr: listen, Handler: t, ReadHeaderTimeout: time.Minute}).ListenAndServe()
}

// value is one attribute: a text or a number, and nothing else is in a record.
type value struct {
	S *string `json:"S,omitempty"`
	N *string `json:"N,omitempty"`
}

func text(s string) value { return value{S: &s} }

func (v value) text() string {
	if v.S != nil {
		return *v.S
	}
	return ""
}

type item map[string]value

// table answers the calls on one table.
type table struct {
	latency            time.Duration
	bigSize, smallSize int64

	mu    sync.Mutex
	items map[string]item
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
	Statements                []json.RawMessage
}

func (t *table) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var in request
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	var out any
	if err == nil {
		_, call, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		out, err = t.call(call, &in)
	}
	time.Sleep(t.latency)
	status := http.StatusOK
	if err != nil {
		status, out = http.StatusBadRequest, map[string]string{
			"__type": "com.amazon.coral.validate#ValidationException", "message": err.Error(),
		}
	}
	answer, err := json.Marshal(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-amz-json-1.0")
	h.Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(answer)), 10))
	h.Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

type object = map[string]any

func (t *table) call(name string, in *request) (any, error) {
	switch name {
	case "PutItem":
		t.put(in.Item)
		return object{}, nil
	case "UpdateItem":
		return object{"Attributes": t.update(in)}, nil
	case "GetItem":
		return object{"Item": t.get(in.Key["id"].text())}, nil
	case "DeleteItem":
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.items, in.Key["id"].text())
		return object{}, nil
	case "BatchGetItem":
		return t.batchGet(in.RequestItems)
	case "BatchWriteItem":
		return t.batchWrite(in.RequestItems)
	case "BatchExecuteStatement":
		return t.execute(in.Statements)
	case "Scan":
		return object{"Items": []item{}, "Count": 0, "ScannedCount": 0}, nil
	case "DescribeTable":
		return object{"Table": object{
			"TableName": in.TableName, "TableStatus": "ACTIVE",
			"KeySchema":            []object{{"AttributeName": "id", "KeyType": "HASH"}},
			"AttributeDefinitions": []object{{"AttributeName": "id", "AttributeType": "S"}},
		}}, nil
	}
	return nil, fmt.Errorf("no call %q here", name)
}

func (t *table) put(i item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.items[i["id"].text()] = i
}

// assignment is one of an update: "a = :x" or "a = if_not_exists(a, :x)".
var assignment = regexp.MustCompile(`([#\w]+) = (?:(if_not_exists)\([#\w]+, )?(:\w+)`)

// update carries out the assignments of SET, all that the tool ever sends, and returns the whole
// item.
func (t *table) update(in *request) item {
	id := in.Key["id"].text()
	t.mu.Lock()
	defer t.mu.Unlock()
	current, ok := t.items[id]
	if !ok {
		current = t.unknown(id)
		t.items[id] = current
	}
	for _, set := range assignment.FindAllStringSubmatch(in.UpdateExpression, -1) {
		name, onlyNew, value := set[1], set[2] != "", set[3]
		if full, ok := in.ExpressionAttributeNames[name]; ok {
			name = full
		}
		if _, there := current[name]; !there || !onlyNew {
			current[name] = in.ExpressionAttributeValues[value]
		}
	}
	return maps.Clone(current)
}

func (t *table) get(id string) item {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := t.items[id]; ok {
		return maps.Clone(i)
	}
	return t.unknown(id)
}

// unknown makes up the record of an id that was never written.
func (t *table) unknown(id string) item {
	size := t.smallSize
	if strings.Contains(id, "big") {
		size = t.bigSize
	}
	digits := strconv.FormatInt(size, 10)
	const day = "2026-01-01T00:00:00"
	return item{
		"id": text(id), "name": text(id + ".bin"), "type": text("application/octet-stream"), "size": {N: &digits},
		"created_at": text(day), "uploaded_at": text(day), "stored_at": text(day),
	}
}

func (t *table) batchGet(items json.RawMessage) (any, error) {
	var tables map[string]struct{ Keys []item }
	if err := json.Unmarshal(items, &tables); err != nil {
		return nil, err
	}
	responses := map[string][]item{}
	for name, asked := range tables {
		for _, key := range asked.Keys {
			responses[name] = append(responses[name], t.get(key["id"].text()))
		}
	}
	return object{"Responses": responses, "UnprocessedKeys": object{}}, nil
}

func (t *table) batchWrite(items json.RawMessage) (any, error) {
	var tables map[string][]struct {
		PutRequest *struct{ Item item }
	}
	if err := json.Unmarshal(items, &tables); err != nil {
		return nil, err
	}
	for _, requests := range tables {
		for _, r := range requests {
			if r.PutRequest != nil {
				t.put(r.PutRequest.Item)
			}
		}
	}
	return object{"UnprocessedItems": object{}}, nil
}

// execute says of every PartiQL statement that it was carried out, and remembers nothing of it.
func (t *table) execute(statements []json.RawMessage) (any, error) {
	responses := make([]object, len(statements))
	for i := range responses {
		responses[i] = object{"TableName": "Files"}
	}
	return object{"Responses": responses}, nil
}

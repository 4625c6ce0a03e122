package nullserver

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

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

// DynamoDB answers at once what the records of files ask for. It checks no signature and no condition,
// and all tables are one. It remembers items; an id that was never written seems to be a stored
// file nevertheless, of the size that [S3] answers. It serves HTTP. The zero value is ready for use.
type DynamoDB struct {
	Latency            time.Duration // every answer is so late
	BigSize, SmallSize int64         // of files that were never written, with "big" in the id and without; bytes

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

// ServeHTTP implements [http.Handler].
func (d *DynamoDB) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var in request
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	var out any
	if err == nil {
		_, call, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		out, err = d.call(call, &in)
	}
	time.Sleep(d.Latency)
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

func (d *DynamoDB) call(name string, in *request) (any, error) {
	switch name {
	case "PutItem":
		d.put(in.Item)
		return object{}, nil
	case "UpdateItem":
		return object{"Attributes": d.update(in)}, nil
	case "GetItem":
		return object{"Item": d.get(in.Key["id"].text())}, nil
	case "DeleteItem":
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.items, in.Key["id"].text())
		return object{}, nil
	case "BatchGetItem":
		return d.batchGet(in.RequestItems)
	case "BatchWriteItem":
		return d.batchWrite(in.RequestItems)
	case "BatchExecuteStatement":
		return d.execute(in.Statements)
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

// set is called with the lock held.
func (d *DynamoDB) set(id string, i item) {
	if d.items == nil {
		d.items = map[string]item{}
	}
	d.items[id] = i
}

func (d *DynamoDB) put(i item) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set(i["id"].text(), i)
}

// assignment is one of an update: "a = :x" or "a = if_not_exists(a, :x)".
var assignment = regexp.MustCompile(`([#\w]+) = (?:(if_not_exists)\([#\w]+, )?(:\w+)`)

// update carries out the assignments of SET, all that the tool ever sends, and returns the whole
// item.
func (d *DynamoDB) update(in *request) item {
	id := in.Key["id"].text()
	d.mu.Lock()
	defer d.mu.Unlock()
	current, ok := d.items[id]
	if !ok {
		current = d.unknown(id)
		d.set(id, current)
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

func (d *DynamoDB) get(id string) item {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i, ok := d.items[id]; ok {
		return maps.Clone(i)
	}
	return d.unknown(id)
}

// unknown makes up the record of an id that was never written.
func (d *DynamoDB) unknown(id string) item {
	size := d.SmallSize
	if strings.Contains(id, "big") {
		size = d.BigSize
	}
	digits := strconv.FormatInt(size, 10)
	const day = "2026-01-01T00:00:00"
	return item{
		"id": text(id), "name": text(id + ".bin"), "type": text("application/octet-stream"), "size": {N: &digits},
		"created_at": text(day), "uploaded_at": text(day), "stored_at": text(day),
	}
}

func (d *DynamoDB) batchGet(items json.RawMessage) (any, error) {
	var tables map[string]struct{ Keys []item }
	if err := json.Unmarshal(items, &tables); err != nil {
		return nil, err
	}
	responses := map[string][]item{}
	for name, asked := range tables {
		for _, key := range asked.Keys {
			responses[name] = append(responses[name], d.get(key["id"].text()))
		}
	}
	return object{"Responses": responses, "UnprocessedKeys": object{}}, nil
}

func (d *DynamoDB) batchWrite(items json.RawMessage) (any, error) {
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
	return object{"UnprocessedItems": object{}}, nil
}

// execute says of every PartiQL statement that it was carried out, and remembers nothing of it.
func (d *DynamoDB) execute(statements []json.RawMessage) (any, error) {
	responses := make([]object, len(statements))
	for i := range responses {
		responses[i] = object{"TableName": "Files"}
	}
	return object{"Responses": responses}, nil
}

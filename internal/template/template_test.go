package template_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/template"
)

// TestCloudFormationIsValid checks every property of every resource, every parameter and every
// reference of the template against what CloudFormation takes.
func TestCloudFormationIsValid(t *testing.T) {
	for name, opts := range map[string]template.Options{
		"plain":         {Table: "Files"},
		"with an index": {Table: "Files", Index: true},
		"named":         {Bucket: "my-files", Table: "Files"},
		"with the API":  {Table: "Files", API: theAPI()},
		"all":           {Bucket: "my-files", Table: "Files", Index: true, API: theAPI()},
	} {
		t.Run(name, func(t *testing.T) {
			if err := check(specification(t), render(t, opts)); err != nil {
				t.Error(err)
			}
		})
	}
}

func theAPI() *template.API {
	return &template.API{StoreOnLoad: true, URLExpiration: "1h", TemporaryLifetime: "90m"}
}

// TestCheck shows that the check above finds mistakes: each is made in a valid template.
func TestCheck(t *testing.T) {
	spec := specification(t)
	for name, test := range map[string]struct {
		path  string // of what is changed; numbers are indexes of lists
		value any    // nil: it is taken away
		want  string // in the error
	}{
		"section":                  {"Resource", obj{}, `Resource: no such section`},
		"version":                  {"AWSTemplateFormatVersion", "2020-01-01", `AWSTemplateFormatVersion: 2020-01-01`},
		"resource type":            {"Resources.Table.Type", "AWS::DynamoDB::GlobalTable", `Table: unknown type "AWS::DynamoDB::GlobalTable"`},
		"resource attribute":       {"Resources.Table.Retain", true, `Table.Retain: unknown`},
		"deletion policy":          {"Resources.Bucket.DeletionPolicy", "Keep", `Bucket.DeletionPolicy: "Keep" is none of`},
		"unknown property":         {"Resources.Bucket.Properties.Cors", obj{}, `Bucket.Cors: no such property`},
		"nested property":          {"Resources.Bucket.Properties.CorsConfiguration.CorsRules.0.ID", "x", `Bucket.CorsConfiguration.CorsRules[0].ID: no such property`},
		"required property":        {"Resources.Table.Properties.KeySchema", nil, `Table.KeySchema: is missing`},
		"type of a property":       {"Resources.Bucket.Properties.LifecycleConfiguration.Rules.0.AbortIncompleteMultipartUpload.DaysAfterInitiation", 1.5, `DaysAfterInitiation: 1.5 is no integer`},
		"no value":                 {"Resources.Bucket.Properties.PublicAccessBlockConfiguration", "all", `PublicAccessBlockConfiguration: all is no object`},
		"value of an enum":         {"Resources.Table.Properties.BillingMode", "ON_DEMAND", `BillingMode: "ON_DEMAND" is none of`},
		"key attribute":            {"Resources.Table.Properties.AttributeDefinitions.1.AttributeName", "other", `AttributeDefinitions: [id other pending_at] are not the attributes of keys [id pending pending_at]`},
		"reference":                {"Resources.Table.Properties.TableName", obj{"Ref": "Tables"}, `Table.TableName: {Ref: Tables} leads nowhere`},
		"attribute":                {"Outputs.TableArn.Value", obj{"Fn::GetAtt": []any{"Table", "ARN"}}, `TableArn: Table has no attribute "ARN"`},
		"substitution":             {"Outputs.IndexArn.Value", obj{"Fn::Sub": "${Tables.Arn}/index"}, `IndexArn: Tables has no attribute "Arn"`},
		"unknown function":         {"Outputs.TableArn.Value", obj{"Fn::Get": "Table.Arn"}, `TableArn: unknown function`},
		"type of a parameter":      {"Parameters.TableName.Type", "Name", `TableName: type "Name"`},
		"default":                  {"Parameters.PointInTimeRecovery.Default", "no", `PointInTimeRecovery: the default "no" is not allowed`},
		"number":                   {"Parameters.RateLimit.Default", "ten", `RateLimit: the default "ten" is no number`},
		"default by pattern 2":     {"Parameters.UrlExpiration.Default", "an hour", `UrlExpiration: the default "an hour" is not allowed`},
		"default by pattern 3":     {"Parameters.TemporaryLifetime.Default", "0", `TemporaryLifetime: the default "0" is not allowed`},
		"order":                    {"Resources.Bucket.DependsOn", []any{"Permission"}, `Bucket.DependsOn: there is no "Permission"`},
		"condition":                {"Resources.SweepFunction.Condition", "Sweep", `SweepFunction.Condition: there is no "Sweep"`},
		"function of a condition":  {"Conditions.Sweeps", obj{"Fn::Equal": []any{}}, `Sweeps: unknown function "Fn::Equal"`},
		"what is not always there": {"Outputs.ApiKeyId.Value", obj{"Ref": "SweepFunction"}, `ApiKeyId: SweepFunction is there only if "Sweeps"`},
		"policy":                   {"Resources.ApiRole.Properties.Policies.1.PolicyDocument.Statement.0.Resource", obj{"Fn::GetAtt": []any{"Log", "Arn"}}, `Resource: Log has no attribute "Arn"`},
		"policy's document":        {"Resources.ApiRole.Properties.AssumeRolePolicyDocument", "all", `AssumeRolePolicyDocument: all is no object`},
		"value of a map":           {"Resources.ApiFunction.Properties.Environment.Variables.FILESTORE_TABLE", obj{"a": "b"}, `FILESTORE_TABLE: map[a:b] is no string`},
		"value of an enum 2":       {"Resources.Bucket.Properties.NotificationConfiguration.LambdaConfigurations.0.Event", "s3:Created", `Event: "s3:Created" is none of`},
		"circle":                   {"Resources.NotificationPermission.Properties.SourceArn", obj{"Fn::GetAtt": []any{"Bucket", "Arn"}}, `Bucket needs NotificationPermission needs Bucket`},
		"default by pattern":       {"Parameters.TableName.Default", "a/b", `TableName: the default "a/b" is not allowed`},
	} {
		t.Run(name, func(t *testing.T) {
			doc := render(t, template.Options{Bucket: "my-files", Table: "Files", Index: true, API: theAPI()})
			set(t, doc, test.path, test.value)
			if err := check(spec, doc); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s = %v: the check says %v, want %q", test.path, test.value, err, test.want)
			}
		})
	}
}

// What the gateway answers by itself is not kept either, and says when to come again.
func TestGatewayResponses(t *testing.T) {
	retryAfter := make(map[string]any)
	for name, r := range object(render(t, template.Options{Table: "Files", API: theAPI()})["Resources"]) {
		if object(r)["Type"] != "AWS::ApiGateway::GatewayResponse" {
			continue
		}
		p := object(object(r)["Properties"])
		headers := object(p["ResponseParameters"])
		retryAfter[fmt.Sprint(p["ResponseType"])] = headers["gatewayresponse.header.Retry-After"]
		if headers["gatewayresponse.header.Cache-Control"] != "'no-store'" || headers["gatewayresponse.header.Access-Control-Allow-Origin"] != "'*'" {
			t.Errorf("%s: %v", name, headers)
		}
	}
	want := map[string]any{"DEFAULT_4XX": nil, "DEFAULT_5XX": nil, "THROTTLED": "'1'", "MISSING_AUTHENTICATION_TOKEN": nil}
	if !maps.Equal(retryAfter, want) {
		t.Errorf("%v", retryAfter)
	}
}

type obj = map[string]any

func render(t *testing.T, opts template.Options) obj {
	t.Helper()
	doc, err := template.CloudFormation(opts)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var out obj
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// set changes one value deep in a document.
func set(t *testing.T, in any, path string, value any) {
	t.Helper()
	key, rest, deeper := strings.Cut(path, ".")
	switch at := in.(type) {
	case obj:
		switch {
		case deeper:
			set(t, at[key], rest, value)
		case value == nil:
			delete(at, key)
		default:
			at[key] = value
		}
	case []any:
		var i int
		if _, err := fmt.Sscan(key, &i); err != nil || i >= len(at) || !deeper {
			t.Fatalf("%q leads nowhere", path)
		}
		set(t, at[i], rest, value)
	default:
		t.Fatalf("%q leads nowhere", path)
	}
}

// spec is what testdata/cloudformation/resources.json says of a resource type.
type spec struct {
	Attributes []string
	Properties properties
	Types      map[string]properties
}

type properties map[string]struct {
	Type     any // a name; or an object with one of ref, array, map and union
	Required bool
}

func specification(t *testing.T) map[string]spec {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "cloudformation", "resources.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]spec
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// checker collects what is wrong with a template.
type checker struct {
	specs  map[string]spec
	doc    obj
	kind   string // of the resource that is looked at
	errors []error
}

func check(specs map[string]spec, doc obj) error {
	c := &checker{specs: specs, doc: doc}
	for name := range doc {
		c.oneOf("", name, "no such section", "AWSTemplateFormatVersion", "Description", "Parameters", "Conditions", "Resources", "Outputs")
	}
	if v := doc["AWSTemplateFormatVersion"]; v != "2010-09-09" {
		c.fail("AWSTemplateFormatVersion", "%v", v)
	}
	for name, p := range object(doc["Parameters"]) {
		c.parameter(name, object(p))
	}
	for name, condition := range object(doc["Conditions"]) {
		c.function(name, object(condition))
	}
	for name, r := range object(doc["Resources"]) {
		c.resource(name, object(r))
	}
	c.kind = ""
	for name, o := range object(doc["Outputs"]) {
		c.value(name, object(o)["Value"], "string", nil)
		c.alwaysThere(name, "", object(o)["Value"])
	}
	c.circles()
	return errors.Join(c.errors...)
}

func object(v any) obj {
	o, _ := v.(obj)
	return o
}

func (c *checker) fail(path, format string, args ...any) {
	c.errors = append(c.errors, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

func (c *checker) oneOf(path, name, complaint string, allowed ...string) {
	if !slices.Contains(allowed, name) {
		c.fail(strings.TrimPrefix(path+"."+name, "."), "%s", complaint)
	}
}

func (c *checker) parameter(name string, p obj) {
	for key := range p {
		c.oneOf(name, key, "unknown", "Type", "Description", "Default", "NoEcho", "AllowedPattern", "AllowedValues")
	}
	def, has := p["Default"].(string)
	switch p["Type"] {
	case "String":
	case "Number":
		if _, err := strconv.ParseFloat(def, 64); err != nil && has {
			c.fail(name, "the default %q is no number", def)
		}
	default:
		c.fail(name, "type %q", p["Type"])
	}
	if pattern, ok := p["AllowedPattern"].(string); ok && has && !regexp.MustCompile(`\A(?:`+pattern+`)\z`).MatchString(def) {
		c.fail(name, "the default %q is not allowed", def)
	}
	if values, ok := p["AllowedValues"].([]any); ok && has && !slices.Contains(values, any(def)) {
		c.fail(name, "the default %q is not allowed", def)
	}
}

func (c *checker) resource(name string, r obj) {
	for key := range r {
		c.oneOf(name, key, "unknown", "Type", "Condition", "DependsOn", "DeletionPolicy", "UpdateReplacePolicy", "Properties")
	}
	kind, _ := r["Type"].(string)
	c.kind = kind
	for _, key := range []string{"DeletionPolicy", "UpdateReplacePolicy"} {
		if keepsFiles(kind) && r[key] != "Retain" {
			c.fail(name+"."+key, "%q is none of [Retain], and something may be lost", r[key])
		}
	}
	condition, _ := r["Condition"].(string)
	if condition != "" && object(c.doc["Conditions"])[condition] == nil {
		c.fail(name+".Condition", "there is no %q", condition)
	}
	for _, before := range list(r["DependsOn"]) {
		if object(c.doc["Resources"])[fmt.Sprint(before)] == nil {
			c.fail(name+".DependsOn", "there is no %q", before)
		}
	}
	c.alwaysThere(name, condition, r["Properties"])
	spec, ok := c.specs[kind]
	if !ok {
		c.fail(name, "unknown type %q", kind)
		return
	}
	c.object(name, r["Properties"], spec.Properties, spec.Types)
	if kind == "AWS::DynamoDB::Table" {
		c.keys(name, object(r["Properties"]))
	}
}

func keepsFiles(kind string) bool {
	return strings.HasPrefix(kind, "AWS::S3::") || strings.HasPrefix(kind, "AWS::DynamoDB::")
}

// alwaysThere checks that what a value refers to is there whenever the value is.
func (c *checker) alwaysThere(path, condition string, value any) {
	for name := range references(value) {
		needs, _ := object(object(c.doc["Resources"])[name])["Condition"].(string)
		if needs != "" && needs != condition {
			c.fail(path, "%s is there only if %q", name, needs)
		}
	}
}

// references are the names that a value refers to.
func references(value any) map[string]bool {
	names := make(map[string]bool)
	var walk func(any)
	walk = func(v any) {
		for _, element := range list(v) {
			walk(element)
		}
		for key, inner := range object(v) {
			switch key {
			case "Ref":
				names[fmt.Sprint(inner)] = true
			case "Fn::GetAtt":
				if l := list(inner); len(l) > 0 {
					names[fmt.Sprint(l[0])] = true
				}
			case "Fn::Sub":
				for _, m := range substitutions().FindAllStringSubmatch(fmt.Sprint(inner), -1) {
					names[m[1]] = true
				}
			default:
				walk(inner)
			}
		}
	}
	walk(value)
	return names
}

// substitutions finds ${NAME} and ${NAME.ATTRIBUTE}.
func substitutions() *regexp.Regexp { return regexp.MustCompile(`\$\{([^}.]*)(?:\.([^}]*))?\}`) }

// circles finds resources that wait for themselves.
func (c *checker) circles() {
	all := object(c.doc["Resources"])
	done := make(map[string]bool)
	var visit func(name string, above []string)
	visit = func(name string, above []string) {
		if i := slices.Index(above, name); i >= 0 {
			c.fail("Resources", "%s needs %s", strings.Join(above[i:], " needs "), name)
			return
		}
		r := object(all[name])
		if done[name] || r == nil {
			return
		}
		needs := references(r["Properties"])
		for _, before := range list(r["DependsOn"]) {
			needs[fmt.Sprint(before)] = true
		}
		for _, other := range slices.Sorted(maps.Keys(needs)) {
			visit(other, append(slices.Clone(above), name))
		}
		done[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		visit(name, nil)
	}
}

func (c *checker) object(path string, v any, known properties, types map[string]properties) {
	o, ok := v.(obj)
	if !ok {
		c.fail(path, "%v is no object", v)
		return
	}
	for name, value := range o {
		property, ok := known[name]
		if !ok {
			c.fail(path+"."+name, "no such property")
			continue
		}
		c.value(path+"."+name, value, property.Type, types)
	}
	for name, property := range known {
		if _, ok := o[name]; !ok && property.Required {
			c.fail(path+"."+name, "is missing")
		}
	}
}

// value checks a value against a type of the specification.
func (c *checker) value(path string, v, kind any, types map[string]properties) {
	if isFunction(v) {
		c.function(path, object(v))
		return
	}
	if name, ok := kind.(string); ok {
		c.scalar(path, v, name)
		return
	}
	for how, of := range object(kind) {
		switch how {
		case "ref":
			c.object(path, v, types[of.(string)], types)
		case "array":
			list, ok := v.([]any)
			if !ok || len(list) == 0 {
				c.fail(path, "%v is no list with something in it", v)
			}
			for i, element := range list {
				c.value(fmt.Sprintf("%s[%d]", path, i), element, of, types)
			}
		case "map":
			o, ok := v.(obj)
			if !ok {
				c.fail(path, "%v is no object", v)
			}
			for name, inner := range o {
				c.value(path+"."+name, inner, of, types)
			}
		case "union": // of a structure and its text: the structure tells more
			kinds := of.([]any)
			c.value(path, v, kinds[max(0, slices.IndexFunc(kinds, func(kind any) bool { return kind != "string" }))], types)
		default:
			c.fail(path, "the check does not know the type %v", kind)
		}
	}
}

func (c *checker) scalar(path string, v any, kind string) {
	var ok bool
	switch kind {
	case "string":
		_, ok = v.(string)
	case "boolean":
		_, ok = v.(bool)
	case "number":
		_, ok = v.(float64)
	case "json":
		if _, ok = v.(obj); !ok {
			c.fail(path, "%v is no object", v)
			return
		}
		c.document(path, v)
	case "integer":
		n, isNumber := v.(float64)
		ok = isNumber && n == math.Trunc(n)
	default:
		c.fail(path, "the check does not know the type %q", kind)
		return
	}
	if !ok {
		c.fail(path, "%v is no %s", v, kind)
	}
	// The specification has no enumerations. The requests of the SDK are of the same values.
	name := path[strings.LastIndex(path, ".")+1:]
	if allowed, ok := enumerations()[name]; ok && keepsFiles(c.kind) && !slices.Contains(allowed, fmt.Sprint(v)) {
		c.fail(path, "%q is none of %v", v, allowed)
	}
}

// document checks the functions in a document whose form CloudFormation does not know.
func (c *checker) document(path string, v any) {
	if isFunction(v) {
		c.function(path, object(v))
		return
	}
	for name, inner := range object(v) {
		c.document(path+"."+name, inner)
	}
	for _, inner := range list(v) {
		c.document(path, inner)
	}
}

func enumerations() map[string][]string {
	return map[string][]string{
		"BillingMode":    texts(dynamotypes.BillingMode("").Values()),
		"AttributeType":  texts(dynamotypes.ScalarAttributeType("").Values()),
		"KeyType":        texts(dynamotypes.KeyType("").Values()),
		"ProjectionType": texts(dynamotypes.ProjectionType("").Values()),
		"Event":          append(texts(s3types.Event("").Values()), "s3:ObjectCreated:*"),
		"Status":         texts(s3types.ExpirationStatus("").Values()),
	}
}

func texts[T ~string](values []T) []string {
	var out []string
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// isFunction reports whether v is a call of a function of the template language.
func isFunction(v any) bool {
	o := object(v)
	for name := range o {
		return len(o) == 1 && (name == "Ref" || strings.HasPrefix(name, "Fn::"))
	}
	return false
}

func (c *checker) function(path string, call obj) {
	for name, argument := range call {
		switch name {
		case "Ref":
			target, _ := argument.(string)
			if strings.HasPrefix(target, "AWS::") {
				continue
			}
			if object(c.doc["Parameters"])[target] == nil && object(c.doc["Resources"])[target] == nil {
				c.fail(path, "{Ref: %v} leads nowhere", argument)
			}
		case "Fn::GetAtt":
			list, _ := argument.([]any)
			if len(list) != 2 {
				c.fail(path, "%v is not a resource and its attribute", argument)
				return
			}
			c.attribute(path, fmt.Sprint(list[0]), fmt.Sprint(list[1]))
		case "Fn::Sub":
			for _, m := range substitutions().FindAllStringSubmatch(fmt.Sprint(argument), -1) {
				if m[2] == "" {
					c.function(path, obj{"Ref": m[1]})
				} else {
					c.attribute(path, m[1], m[2])
				}
			}
		case "Fn::Equals":
			for _, side := range list(argument) {
				c.document(path, side)
			}
		default:
			c.fail(path, "unknown function %q", name)
		}
	}
}

func (c *checker) attribute(path, resource, attribute string) {
	kind, _ := object(object(c.doc["Resources"])[resource])["Type"].(string)
	if !slices.Contains(c.specs[kind].Attributes, attribute) {
		c.fail(path, "%s has no attribute %q", resource, attribute)
	}
}

// keys checks what DynamoDB wants: the attributes of all keys, and no others, are defined, each
// once (Amazon DynamoDB API Reference, "CreateTable").
func (c *checker) keys(name string, table obj) {
	inKeys := make(map[string]bool)
	add := func(key any) {
		for _, element := range list(key) {
			inKeys[fmt.Sprint(object(element)["AttributeName"])] = true
		}
	}
	add(table["KeySchema"])
	for _, index := range list(table["GlobalSecondaryIndexes"]) {
		add(object(index)["KeySchema"])
	}
	var defined []string
	for _, d := range list(table["AttributeDefinitions"]) {
		defined = append(defined, fmt.Sprint(object(d)["AttributeName"]))
	}
	slices.Sort(defined)
	if want := slices.Sorted(maps.Keys(inKeys)); !slices.Equal(defined, want) {
		c.fail(name+".AttributeDefinitions", "%v are not the attributes of keys %v", defined, want)
	}
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

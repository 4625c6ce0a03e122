package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/designfultech/filestore/internal/api"
	"github.com/designfultech/filestore/internal/policy"
)

// API says what the template's API is like. All fields are defaults of parameters.
type API struct {
	StoreOnLoad       bool
	URLExpiration     string // as the variables of the program have it, such as 1h
	TemporaryLifetime string
}

// The names of resources that others refer to.
const (
	theAPI                 = "RestApi"
	theStage               = "ApiStage"
	apiFunction            = "ApiFunction"
	notificationFunction   = "NotificationFunction"
	notificationPermission = "NotificationPermission"
	sweepFunction          = "SweepFunction"
	sweepSchedule          = "SweepSchedule"
	sweeps                 = "Sweeps" // the condition under which there are any
)

// stageName is the first part of the path of every URL of the API, unless it has a domain of its own.
const stageName = "prod"

// How long functions may take, in seconds.
const (
	apiSeconds          = 29  // as long as API Gateway waits
	notificationSeconds = 60  // which is mostly spent with waiting for a table that is busy
	sweepSeconds        = 900 // the most that there is
)

// properties are those of a resource, by CloudFormation's names.
type properties map[string]any

// arnOf is the ARN of a resource.
func arnOf(name string) getAtt { return getAtt{[2]string{name, "Arn"}} }

// addAPI adds the HTTP API: three functions, each with a role of its own that allows what it does and no more, and what
// calls them.
func addAPI(d *Document, opts API) error {
	d.Description = "A filestore with its HTTP API: a private bucket for the files, a table with a record for each of them, and the functions before it."
	addAPIParameters(d, opts)
	d.Conditions.add(sweeps, map[string]any{"Fn::Equals": []any{ref{"StoreOnLoad"}, "false"}})

	addFunction(d, function{name: apiFunction, suffix: "api", role: policy.API, seconds: apiSeconds, tokens: true})
	addFunction(d, function{name: notificationFunction, suffix: "notifications", role: policy.Notifications, seconds: notificationSeconds})
	addFunction(d, function{name: sweepFunction, suffix: "sweeps", role: policy.Sweeper, seconds: sweepSeconds, condition: sweeps})

	// The bucket is named, and not referred to: it can be made only once there is the permission.
	fromBucket := properties{"SourceArn": sub{"arn:${AWS::Partition}:s3:::${BucketName}"}, "SourceAccount": ref{"AWS::AccountId"}}
	d.Resources.add(notificationPermission, permission(notificationFunction, "s3", fromBucket))
	d.Resources.add(sweepSchedule, &resource{Type: "AWS::Events::Rule", Condition: sweeps, Properties: properties{
		"Description":        "Removes temporary files that nobody stored.",
		"ScheduleExpression": "rate(30 minutes)",
		"State":              "ENABLED",
		"Targets":            []properties{{"Id": "sweep", "Arn": arnOf(sweepFunction)}},
	}})
	sweepPermission := permission(sweepFunction, "events", properties{"SourceArn": arnOf(sweepSchedule)})
	sweepPermission.Condition = sweeps
	d.Resources.add("SweepPermission", sweepPermission)

	return addGateway(d)
}

func addAPIParameters(d *Document, opts API) {
	yesNo := []string{"true", "false"}
	number := func(name, description string, value int) {
		d.Parameters.add(name, parameter{Type: "Number", Description: description, Default: strconv.Itoa(value)})
	}
	d.Parameters.add("CodeBucket", parameter{
		Type: "String", Description: "The S3 bucket, in the region of the stack, with the code of the functions.", AllowedPattern: BucketPattern,
	})
	d.Parameters.add("CodeKey", parameter{
		Type: "String", Description: "The key of the code there: a ZIP archive with the program in it, named bootstrap. New code needs a new key.",
	})
	d.Parameters.add("Architecture", parameter{
		Type: "String", Description: "What the code is built for.", Default: "arm64", AllowedValues: []string{"arm64", "x86_64"},
	})
	d.Parameters.add("TokenKey", parameter{
		Type: "String", NoEcho: true, AllowedPattern: `^[!-~]{32,128}$`,
		Description: "FILESTORE_TOKEN_KEY: what signs the tokens with which a file can be taken back, 32 random characters or more.",
	})
	d.Parameters.add("StoreOnLoad", parameter{
		Type: "String", Description: "FILESTORE_STORE_ON_LOAD: whether files are stored the moment they are uploaded. Then there are no sweeps.",
		Default: strconv.FormatBool(opts.StoreOnLoad), AllowedValues: yesNo,
	})
	const duration = `^([1-9][0-9]*d?|[1-9][0-9]*(\.[0-9]+)?[hms]([0-9]+(\.[0-9]+)?[hms])*)$` // what the program takes, and not 0
	d.Parameters.add("UrlExpiration", parameter{
		Type: "String", Description: "FILESTORE_URL_EXPIRATION: the lifetime of presigned URLs, from 1s to 7d. They also end with the credentials of the function.",
		Default: opts.URLExpiration, AllowedPattern: duration,
	})
	d.Parameters.add("TemporaryLifetime", parameter{
		Type: "String", Description: "FILESTORE_TEMPORARY_LIFETIME: how long files that nobody stores are kept, such as 90m or 2d.",
		Default: opts.TemporaryLifetime, AllowedPattern: duration,
	})
	number("RateLimit", "How many requests a second may come with the key.", api.DefaultRate)
	number("BurstLimit", "How many of them may come at once.", api.DefaultBurst)
	number("MonthlyQuota", "How many of them may come in a month.", api.DefaultQuota)
	number("StageRateLimit", "How many requests a second may come in all, to each path and method.", api.DefaultAnonymousRate)
	number("StageBurstLimit", "How many of them may come at once.", api.DefaultAnonymousBurst)
	d.Parameters.add("LogRetentionDays", parameter{
		Type: "Number", Description: "How long logs are kept.", Default: "90",
		AllowedValues: []string{"1", "3", "5", "7", "14", "30", "60", "90", "120", "150", "180", "365", "400", "545", "731", "1827", "3653"},
	})
}

// function is one of AWS Lambda.
type function struct {
	name      string
	suffix    string // of its log's name
	role      policy.Role
	seconds   int
	tokens    bool   // it knows the key of tokens
	condition string // under which it is there
}

func addFunction(d *Document, f function) {
	log, role := strings.TrimSuffix(f.name, "Function")+"Log", strings.TrimSuffix(f.name, "Function")+"Role"
	env := properties{
		"FILESTORE_BUCKET":             ref{"BucketName"}, // see the permission of S3
		"FILESTORE_TABLE":              ref{"Table"},
		"FILESTORE_STORE_ON_LOAD":      ref{"StoreOnLoad"},
		"FILESTORE_URL_EXPIRATION":     ref{"UrlExpiration"},
		"FILESTORE_TEMPORARY_LIFETIME": ref{"TemporaryLifetime"},
		"FILESTORE_LOG_FORMAT":         "json",
	}
	if f.tokens {
		env["FILESTORE_TOKEN_KEY"] = ref{"TokenKey"}
	}
	d.Resources.add(log, &resource{Type: "AWS::Logs::LogGroup", Condition: f.condition, Properties: properties{
		"LogGroupName":    sub{"/aws/lambda/${AWS::StackName}-" + f.suffix},
		"RetentionInDays": ref{"LogRetentionDays"},
	}})
	d.Resources.add(role, &resource{Type: "AWS::IAM::Role", Condition: f.condition, Properties: properties{
		"AssumeRolePolicyDocument": properties{"Version": "2012-10-17", "Statement": []properties{{
			"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": properties{"Service": "lambda.amazonaws.com"},
		}}},
		"Policies": []properties{
			{"PolicyName": "filestore", "PolicyDocument": policyOf(f.role)},
			{"PolicyName": "log", "PolicyDocument": properties{"Version": "2012-10-17", "Statement": []properties{{
				"Effect": "Allow", "Action": []string{"logs:CreateLogStream", "logs:PutLogEvents"}, "Resource": arnOf(log),
			}}}},
		},
	}})
	d.Resources.add(f.name, &resource{Type: "AWS::Lambda::Function", Condition: f.condition, Properties: properties{
		"Description":   "filestore: " + f.suffix,
		"Runtime":       "provided.al2023",
		"Handler":       "bootstrap",
		"Architectures": []ref{{"Architecture"}},
		"Code":          properties{"S3Bucket": ref{"CodeBucket"}, "S3Key": ref{"CodeKey"}},
		"Role":          arnOf(role),
		"MemorySize":    512, // by which it has of the processor, too
		"Timeout":       f.seconds,
		"Environment":   properties{"Variables": env},
		"LoggingConfig": properties{"LogFormat": "JSON", "LogGroup": ref{log}},
	}})
}

// policyOf is the policy of a role on the bucket and the table of the stack.
func policyOf(role policy.Role) properties {
	doc := policy.For(role, policy.Scope{
		Partition: "${AWS::Partition}", Region: "${AWS::Region}", Account: "${AWS::AccountId}",
		Bucket: "${BucketName}", Table: "${TableName}",
	})
	var statements []properties
	for _, s := range doc.Statement {
		statements = append(statements, properties{"Sid": s.Sid, "Effect": s.Effect, "Action": s.Action, "Resource": sub{s.Resource}})
	}
	return properties{"Version": doc.Version, "Statement": statements}
}

// permission lets a service call a function, on behalf of one resource. The ARN of a bucket has no account in it, which
// must be named beside it: somebody else may get a bucket of that name one day.
func permission(function, service string, from properties) *resource {
	p := properties{"Action": "lambda:InvokeFunction", "FunctionName": ref{function}, "Principal": service + ".amazonaws.com"}
	maps.Copy(p, from)
	return &resource{Type: "AWS::Lambda::Permission", Properties: p}
}

// addGateway adds the REST API, with a key and a usage plan.
func addGateway(d *Document) error {
	routes, err := api.Routes()
	if err != nil {
		return err
	}
	d.Resources.add(theAPI, &resource{Type: "AWS::ApiGateway::RestApi", Properties: properties{
		"Name":                  sub{"${AWS::StackName}"},
		"Description":           "The HTTP API of a filestore.",
		"EndpointConfiguration": properties{"Types": []string{"REGIONAL"}},
	}})
	inAPI := ref{theAPI}
	d.Resources.add("ApiPermission", permission(apiFunction, "apigateway", properties{
		"SourceArn": sub{"arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${" + theAPI + "}/*"},
	}))

	// What a deployment is of: it takes all as it is when it is made.
	var deployed section[*resource]
	// What the gateway answers by itself has the API's form, and pages may read it.
	for _, r := range []struct {
		name       string
		retryAfter string // seconds; empty: it does not say
		more       properties
	}{
		{"DEFAULT_4XX", "", nil},
		{"DEFAULT_5XX", "", nil},
		{"THROTTLED", "1", nil},
		// So it calls a path or a method that there is not.
		{"MISSING_AUTHENTICATION_TOKEN", "", properties{
			"StatusCode": "404", "ResponseTemplates": properties{"application/json": `{"message": "Not Found"}`},
		}},
	} {
		const header = "gatewayresponse.header."
		headers := properties{
			header + "Access-Control-Allow-Origin": "'*'", header + "Access-Control-Expose-Headers": "'Retry-After'",
			header + "Cache-Control": "'no-store'",
		}
		if r.retryAfter != "" {
			headers[header+"Retry-After"] = "'" + r.retryAfter + "'"
		}
		p := properties{"RestApiId": inAPI, "ResponseType": r.name, "ResponseParameters": headers}
		maps.Copy(p, r.more)
		deployed.add("Gateway"+logicalID(strings.ToLower(r.name)), &resource{Type: "AWS::ApiGateway::GatewayResponse", Properties: p})
	}
	paths := make(map[string]any) // by path, what refers to it
	paths[""] = getAtt{[2]string{theAPI, "RootResourceId"}}
	for i, r := range routes {
		path := strings.TrimSuffix(r.Path, "/")
		if path != r.Path {
			continue // to API Gateway it is the one without
		}
		at := ""
		for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
			parent := paths[at]
			if at += "/" + part; paths[at] == nil {
				paths[at] = ref{logicalID(at) + "Path"}
				deployed.add(logicalID(at)+"Path", &resource{Type: "AWS::ApiGateway::Resource", Properties: properties{
					"RestApiId": inAPI, "ParentId": parent, "PathPart": part,
				}})
			}
		}
		methods := []api.Route{r}
		if i == 0 || routes[i-1].Path != path {
			methods = append(methods, api.Route{Path: path, Method: "OPTIONS"})
		}
		for _, m := range methods {
			deployed.add(logicalID(path)+logicalID(strings.ToLower(m.Method)), method(m, paths[path]))
		}
	}
	text, err := json.Marshal(deployed)
	if err != nil {
		return err
	}
	d.Resources = append(d.Resources, deployed...)
	// A deployment does not change: with another name it is another one.
	hash := sha256.Sum256(text)
	deployment := "ApiDeployment" + hex.EncodeToString(hash[:4])
	var names []string
	for _, n := range deployed {
		names = append(names, n.name)
	}
	slices.Sort(names)
	d.Resources.add(deployment, &resource{Type: "AWS::ApiGateway::Deployment", DependsOn: names, Properties: properties{"RestApiId": inAPI}})
	d.Resources.add(theStage, &resource{Type: "AWS::ApiGateway::Stage", Properties: properties{
		"RestApiId": inAPI, "DeploymentId": ref{deployment}, "StageName": stageName,
		"MethodSettings": []properties{{
			"ResourcePath": "/*", "HttpMethod": "*",
			"ThrottlingRateLimit": ref{"StageRateLimit"}, "ThrottlingBurstLimit": ref{"StageBurstLimit"},
		}},
	}})
	addPlan(d)
	return nil
}

// method is one of the API. All go to the function; the gateway looks at the key alone.
func method(r api.Route, path any) *resource {
	p := properties{
		"RestApiId": ref{theAPI}, "ResourceId": path, "HttpMethod": r.Method,
		"AuthorizationType": "NONE", "ApiKeyRequired": r.Key,
		"Integration": properties{
			"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST",
			"Uri": sub{"arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${" + apiFunction + ".Arn}/invocations"},
		},
	}
	parameters := make(properties)
	for part := range strings.SplitSeq(r.Path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			parameters["method.request.path."+strings.TrimSuffix(name, "}")] = true
		}
	}
	if len(parameters) > 0 {
		p["RequestParameters"] = parameters
	}
	return &resource{Type: "AWS::ApiGateway::Method", Properties: p}
}

func addPlan(d *Document) {
	d.Resources.add("UsagePlan", &resource{Type: "AWS::ApiGateway::UsagePlan", Properties: properties{
		"ApiStages": []properties{{"ApiId": ref{theAPI}, "Stage": ref{theStage}}},
		"Throttle":  properties{"RateLimit": ref{"RateLimit"}, "BurstLimit": ref{"BurstLimit"}},
		"Quota":     properties{"Limit": ref{"MonthlyQuota"}, "Period": "MONTH"},
	}})
	d.Resources.add("ApiKey", &resource{Type: "AWS::ApiGateway::ApiKey", Properties: properties{"Enabled": true}})
	d.Resources.add("UsagePlanKey", &resource{Type: "AWS::ApiGateway::UsagePlanKey", Properties: properties{
		"KeyId": ref{"ApiKey"}, "KeyType": "API_KEY", "UsagePlanId": ref{"UsagePlan"},
	}})
	d.Outputs.add("ApiUrl", output{"The URL of the API.", sub{"https://${" + theAPI + "}.execute-api.${AWS::Region}.${AWS::URLSuffix}/" + stageName}})
	d.Outputs.add("ApiKeyId", output{"The id of the key: \"aws apigateway get-api-key --include-value --api-key ID\" tells the key.", ref{"ApiKey"}})
}

// logicalID makes a name of letters and digits out of a path.
func logicalID(path string) string {
	var name strings.Builder
	for word := range strings.FieldsFuncSeq(path, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		name.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return name.String()
}

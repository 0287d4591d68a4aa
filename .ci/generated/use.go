// A client that openapi-generator wrote calls the gateway and gets typed answers.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"

	"generated/toolgate"
)

func tell(name string, values ...any) {
	line, err := json.Marshal([]any{name, values})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func well[T any](value T, _ any, err error) T {
	if err != nil {
		var told *toolgate.GenericOpenAPIError
		if errors.As(err, &told) {
			log.Fatalf("%v: %s", err, told.Body())
		}
		log.Fatal(err)
	}
	return value
}

func main() {
	url, key := os.Args[1], os.Args[2]
	settings := toolgate.NewConfiguration()
	settings.Servers = toolgate.ServerConfigurations{{URL: url}}
	client := toolgate.NewAPIClient(settings)
	known := context.WithValue(context.Background(), toolgate.ContextAPIKeys, map[string]toolgate.APIKey{"apiKey": {Key: key}})
	input := map[string]any{"limit": 1}

	listed := well(client.DirectoryAPI.Tools(known).Limit(1).Execute())
	var first string = listed.Data[0].Id
	tell("tools", first, listed.Meta.Limit, listed.Meta.NextCursor.IsSet())

	answer := well(client.CallsAPI.InvokeTool(known, "github:list_repos").InvokeInput(toolgate.InvokeInput{Input: input}).Execute())
	var decision toolgate.Decision = answer.Governance.Decision
	var event string = answer.Governance.AuditEventId
	result := answer.Result.(map[string]any)["repositories"].([]any)[0].(map[string]any)
	tell("invoke_tool", decision == toolgate.DECISION_ALLOW, result["name"])

	record := well(client.AuditAPI.AuditEvent(known, event).Execute())
	tell("record", record.Data["tool"], record.Data["outcome"])

	request := toolgate.NewInvokeRequest("github", "list_repos")
	request.SetArguments(input)
	called := well(client.CallsAPI.Invoke(known).InvokeRequest(*request).Execute())
	tell("invoke", called.Success, called.InvocationId != "")

	_, response, err := client.CallsAPI.Invoke(known).InvokeRequest(*toolgate.NewInvokeRequest("github", "nothing")).Execute()
	var told *toolgate.GenericOpenAPIError
	if !errors.As(err, &told) {
		log.Fatal("an unknown tool is no error: ", err)
	}
	refused := told.Model().(toolgate.InvokeError)
	tell("refused", response.StatusCode, refused.Error.Code)

	_, response, err = client.DirectoryAPI.Tools(context.Background()).Execute()
	if !errors.As(err, &told) {
		log.Fatal("a stranger is let in: ", err)
	}
	turned := told.Model().(toolgate.ErrorEnvelope)
	tell("stranger", response.StatusCode, turned.Error.Code)
}

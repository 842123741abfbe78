export default [
  {
    title: 'Köpa licens',
    text: [
      'Leta upp licensen i butiken och tryck på Lägg till. Öppna varukorgen högst upp för att ändra antalet, och gå till kassan när allt är med.',
      'I kassan bekräftar du först beställningen. Då håller vi platserna och priset i tio minuter medan du betalar. Licenserna gäller så snart du har betalat.',
    ],
  },
  {
    title: 'Vad kostar säsongen?',
    text: [
      'Längst ner i butiken kan du få en uppskattning. Välj gren och fyll i ålder, antal tävlingar och antal mekaniker. Du kan lägga allt i varukorgen med ett tryck.',
      'Uppskattningen är vägledande. Det är priserna i butiken som gäller.',
    ],
  },
  {
    title: 'Utan uppkoppling',
    text: [
      'Det du har sett tidigare kan du läsa även utan uppkoppling. Ovanför listan står när uppgifterna är från.',
      'Köp och anteckningar sparas på enheten och skickas när du är uppkopplad igen. Högst upp ser du hur många som väntar. Varje köp skickas en gång, även om du trycker två gånger.',
      'Om ett köp inte godtas, till exempel för att platserna är slut, står det i listan över det som väntar. Då kan du ta bort det och beställa på nytt.',
    ],
  },
  {
    title: 'Ordrar och licenser',
    text: [
      'Under Ordrar finns dina kvitton, och under Licenser det som gäller nu. Sök på nummer eller använd filtren. Adressen i webbläsaren minns sökningen, så du kan dela eller spara den.',
      'I en lång lista flyttar piltangenterna dig från rad till rad.',
    ],
  },
  {
    title: 'För funktionärer',
    text: [
      'Du ser alla ordrar, licenser och användare. Markera licenser i listan för att stänga av dem eller göra dem giltiga igen, många på en gång. En order återbetalas från sin egen sida.',
    ],
  },
  {
    title: 'När något går fel',
    text: [
      'Om en del av sidan inte fungerar så fungerar resten. Försök igen, och uppge felnumret om du kontaktar oss.',
      'Märket högst upp visar hur tjänsten mår: en cirkel när allt fungerar, en triangel när det går långsamt, en kvadrat när den ligger nere, och en ruta på snedden när du själv saknar uppkoppling.',
    ],
  },
];
